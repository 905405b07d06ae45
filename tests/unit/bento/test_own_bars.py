"""A caller's own bars are read alike in whatever form they come."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hourcast.errors import DataError
from hourcast_bento import own_bars
from hourcast_bento.own_bars import OwnBars, Read, check, read

_NUMBERS = ("open", "high", "low", "close", "volume")


def _bar(hour: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "open_time": f"2025-06-26T{hour:02d}:00:00Z", "open": 10.5, "high": 12, "low": 10, "close": 11.25, "volume": 3.0,
    } | more  # fmt: skip


def _body(*rows: Any, **more: Any) -> bytes:
    return json.dumps({"bars": {"BTC/USDT": rows}} | more).encode()


def _by_pydantic(body: bytes) -> Read | list[Any]:
    """What pydantic makes of a body, or the errors that it finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_bars, "_read_usual", _unusual)
        return _outcome(body)


def _unusual(_value: object) -> Read:
    raise ValueError


def _outcome(body: bytes) -> Read | list[Any]:
    try:
        return read(body)
    except ValidationError as error:
        return error.errors(include_url=False, include_context=False)


def _same(one: Read | list[Any], other: Read | list[Any]) -> bool:
    if isinstance(one, list) or isinstance(other, list):
        return repr(one) == repr(other)
    return (
        one.horizons == other.horizons
        and list(one.bars) == list(other.bars)
        and all(
            np.array_equal(getattr(one.bars[symbol], name), getattr(other.bars[symbol], name))
            and getattr(one.bars[symbol], name).dtype == getattr(other.bars[symbol], name).dtype
            for symbol in one.bars
            for name in ("open_time", "close_time", "prices")
        )
    )


_ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["1.5", " 2 ", "1e3", "nan"]),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip
_NUMBER = st.one_of(
    st.floats(min_value=0, max_value=1e9), st.integers(0, 10**6), st.sampled_from([-1, 0, 1e-320, 10**400])
)
_TIME = st.one_of(
    st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat()),
    st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z"),
    st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "+00:00"),
    st.datetimes().map(lambda t: t.isoformat(" ") + "+05:30"),
    st.sampled_from(
        [
            "2025-06-26", "2025-06-26T05:00Z", "2025-02-30T00:00:00Z", "2025-06-26T24:00:00Z", "2025-06-26T23:59:60Z",
            "0000-01-01T00:00:00Z", "2025-06-26T05:00:00z", "2025-06-26T05:00:00Z\n2025-06-26T06:00:00Z", "٢025-06-26T05:00:00Z",
            "2025-06-26T05:00:00Z\n", " 025-06-26T05:00:00Z", "+025-06-26T05:00:00Z", 1750914000, 1750914000.5, "1750914000",
        ]
    ),
)  # fmt: skip
_ROW = st.fixed_dictionaries(
    {"open_time": st.one_of(_TIME, _ODD), **{name: st.one_of(_NUMBER, _ODD) for name in _NUMBERS}},
    optional={"close_time": st.one_of(_TIME, st.none()), "other": st.just(1)},
)
_USUAL_ROW = st.fixed_dictionaries(
    {
        "open_time": st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z"),
        **{name: st.floats(min_value=1e-9, max_value=1e12) for name in _NUMBERS},
    }
)
_ROWS = st.one_of(st.lists(_USUAL_ROW, max_size=4), st.lists(_ROW, max_size=2), _ODD)
_BODY = st.fixed_dictionaries(
    {"bars": st.one_of(st.dictionaries(st.text(max_size=3), _ROWS, max_size=3), _ODD)},
    optional={"horizons": st.one_of(st.none(), st.lists(st.one_of(st.integers(), _ODD), max_size=3), _ODD), "x": st.just(1)},
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(_BODY, _ODD).map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b"{")
@example(b'{"bars": {"A": []}, "bars": {"B": []}}')
@example(b'{"bars": {"\xff": []}}')
def test_every_body_is_read_as_pydantic_reads_it(body: bytes) -> None:
    """The same columns to the last bit, or the same errors, whether the form is the usual one or not."""
    assert _same(_outcome(body), _by_pydantic(body))


@pytest.mark.parametrize(
    "form", ["2025-06-26T0{}:00:00Z", "2025-06-26T0{}:00:00", "2025-06-26T0{}:00:00+00:00"]
)
def test_the_usual_form_is_read_without_a_look_at_each_bar(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times of UTC in whole seconds, as JSON writers of most languages give them, and numbers."""
    monkeypatch.setattr(OwnBars, "model_validate_json", None)
    found = read(_body(*(_bar(open_time=form.format(hour)) for hour in range(3)), horizons=[1, 24]))
    columns = found.bars["BTC/USDT"]
    assert columns.open_time.tolist() == [1750896000, 1750899600, 1750903200]
    assert columns.close_time.tolist() == [1750899600, 1750903200, 1750906800]
    assert columns.prices.tolist() == [[10.5, 12.0, 10.0, 11.25, 3.0]] * 3
    assert found.horizons == (1, 24)


def test_as_many_bars_as_may_come_do() -> None:
    """20,000 bars of a symbol are read; one more, or a seventeenth symbol, is an error of pydantic's."""
    row = _bar()
    assert len(read(_body(*[row] * 20_000)).bars["BTC/USDT"].open_time) == 20_000
    for body in (_body(*[row] * 20_001), json.dumps({"bars": {str(i): [row] for i in range(17)}}).encode()):
        with pytest.raises(ValidationError, match="at most (20000|16) items"):
            read(body)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([_bar(0), _bar(1, low=10.75)], "bars['A'][1]: low 10.75 and high 12 must enclose open 10.5 and close 11.25"),
        ([_bar(0, close_time="2025-06-26T00:00:00Z")], "bars['A'][0]: close_time must lie after open_time"),
        ([_bar(1), _bar(2), _bar(2)], "bars['A'][2]: open_time must be later than that of the bar before it"),
    ],
)  # fmt: skip
def test_bars_that_contradict_are_named(rows: list[dict[str, Any]], told: str) -> None:
    """Which bar of which symbol, and why."""
    body = json.dumps({"bars": {"A": rows}}).encode()
    with pytest.raises(DataError) as caught:
        check(read(body).bars)
    assert str(caught.value) == told
    # pydantic's columns are told alike.
    again = _by_pydantic(body)
    assert isinstance(again, Read)
    with pytest.raises(DataError) as caught:
        check(again.bars)
    assert str(caught.value) == told
