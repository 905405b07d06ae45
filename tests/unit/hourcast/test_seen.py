"""Training builds of a recorded hour what serving saw at it; on SQLite, and on MySQL alike."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, cycle

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hourcast.contracts import HOUR_S, STANDS, Bars, Seen, from_epoch, to_epoch
from hourcast.contracts import fingerprint as bars_mark
from hourcast.features import Features, FeatureSpec, build, fingerprint
from hourcast.store import Hour, SeriesState, Store
from tests.specs import START, features_of, random_walk, volatility_of

_EXAMPLES = count()
_HISTORY_H = 260
_LIVE_H = 30
_FIRST = START + _HISTORY_H * HOUR_S


@dataclass(frozen=True)
class _Bar:
    """One bar of the live hours: how late it comes and by how much its close is revised how much later."""

    late_min: int
    revised_after_min: int | None


_BARS = st.lists(
    st.builds(
        _Bar,
        late_min=st.sampled_from([0, 0, 0, 1, 4, 30, 90, 400]),
        revised_after_min=st.sampled_from([None, None, 1, 10, 70, 500]),
    ),
    min_size=_LIVE_H,
    max_size=_LIVE_H,
)


def _spec(target: str, exogenous: str) -> FeatureSpec:
    return features_of(
        target, (exogenous,), window=6, vol_lags=168, volatility=volatility_of(halflives_h=(6, 24, 96))
    )


def _live(store: Store, spec: FeatureSpec, hour: Hour) -> Features:
    """What a recorder sees when an hour is closed, read as serving reads."""
    start = hour.hour - timedelta(hours=spec.history_h + 4, weeks=1)
    symbols = (spec.target, *(f.symbol for f in spec.exogenous))
    bars = store.read_many(symbols, start=start, known_at=hour.hour, as_of=hour.closed_at)
    return build(hour.known(bars), spec, np.array([to_epoch(hour.hour)]))


def _bytes(made: Features, i: int) -> tuple[bytes, ...]:
    return tuple(getattr(made, name)[i].tobytes() for name in ("x", "log_volatility", "last_close", "usable"))


def _played(
    store: Store,
    spec: FeatureSpec,
    model: str,
    target: list[_Bar],
    other: list[_Bar],
    deadline_min: int,
    look: Callable[[Hour], None] = lambda _hour: None,
) -> dict[int, tuple[Features, Hour]]:
    """Play the live hours minute by minute, as the etl and the recorder would; what the recorder saw at each hour."""
    (exogenous,) = (f.symbol for f in spec.exogenous)
    whole = {
        spec.target: random_walk(spec.target, _HISTORY_H + _LIVE_H, 1),
        exogenous: random_walk(exogenous, START - 1800 + np.arange(_HISTORY_H + _LIVE_H) * HOUR_S, 2),
    }
    for symbol, bars in whole.items():
        store.upsert_bars(bars.take(slice(0, _HISTORY_H)), "s", from_epoch(_FIRST))
        assert len(store.read_bars(symbol)) == _HISTORY_H
    arrivals: dict[int, list[Bars]] = {}
    for symbol, plan in ((spec.target, target), (exogenous, other)):
        for i, bar in enumerate(plan):
            one = whole[symbol].take(slice(_HISTORY_H + i, _HISTORY_H + i + 1))
            minute = (int(one.close_time[0]) - _FIRST) // 60 + bar.late_min
            arrivals.setdefault(minute, []).append(one)
            if bar.revised_after_min is not None:
                prices = [[one.open[0], one.high[0] * 2, one.low[0], one.close[0] * 1.5, 1]]
                revised = Bars.of(symbol, one.open_time, prices)
                arrivals.setdefault(minute + bar.revised_after_min, []).append(revised)
    seen = {}
    todo = [_FIRST + i * HOUR_S for i in range(1, _LIVE_H + 1)]
    for minute in sorted({*arrivals, *range(60, 60 * _LIVE_H + 60, 5)}):
        now = from_epoch(_FIRST + minute * 60)
        for one in arrivals.get(minute, []):
            store.upsert_bars(one, "s", now)
        for hour_s in [h for h in todo if h <= to_epoch(now)]:
            hour = from_epoch(hour_s)
            known = store.read_many(whole, known_at=hour, last=1)
            newest = {s: from_epoch(b.close_time[-1]) for s, b in known.items()}
            there = newest[exogenous] > hour - timedelta(hours=1)
            if newest[spec.target] != hour or not (there or now >= hour + timedelta(minutes=deadline_min)):
                continue
            states = {
                spec.target: SeriesState("there", hour),
                exogenous: SeriesState("there" if there else "given_up", newest[exogenous]),
            }
            assert store.close_hour(Hour(model, hour, now, now, states))
            todo = [h for h in todo if h > hour_s]
            recorded = store.newest_hour(model)
            assert recorded is not None
            seen[hour_s] = _live(store, spec, recorded), recorded
            look(recorded)
    return seen


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=_BARS, other=_BARS, deadline_min=st.sampled_from([0, 5, 45]))
def test_training_builds_what_a_live_recorder_saw(
    target: list[_Bar], other: list[_Bar], deadline_min: int, store: Store
) -> None:
    """Feature for feature, byte for byte, whatever came late or was revised, alone or among all hours, then and ever after."""
    number = next(_EXAMPLES)
    spec, model = _spec(f"T{number}", f"X{number}"), f"m{number}"
    seen = _played(store, spec, model, target, other, deadline_min)
    end = from_epoch(_FIRST + (_LIVE_H + 24) * HOUR_S)
    bars = store.read_recorded(model, [spec.target, f"X{number}"], known_at=end)
    origins = bars[spec.target].close_time[-_LIVE_H:]
    made = build(bars, spec, origins)
    cut = {symbol: part.known_at(int(origins[-1])) for symbol, part in bars.items()}
    again = build(cut, spec, origins[::-1])
    for i, origin in enumerate(origins.tolist()):
        if origin in seen:
            live, hour = seen[origin]
            assert _bytes(made, i) == _bytes(live, 0)
            assert _bytes(again, len(origins) - 1 - i) == _bytes(live, 0)
            assert fingerprint(made)[i] == fingerprint(live)[0]
            assert _bytes(_live(store, spec, hour), 0) == _bytes(live, 0)
    assert seen


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=_BARS, other=_BARS, every=st.integers(3, 9))
def test_a_table_as_of_then_is_what_it_was_then(
    target: list[_Bar], other: list[_Bar], every: int, store: Store
) -> None:
    """Offline tables of hours, recorded or from before the record, keep their bytes when bars come or are revised later."""
    number = next(_EXAMPLES)
    spec, model = _spec(f"T{number}", f"X{number}"), f"m{number}"
    then: list[tuple[Hour, tuple[str, ...]]] = []

    def table(hour: Hour, as_of: datetime | None) -> tuple[str, ...]:
        bars = store.read_recorded(model, [spec.target, f"X{number}"], known_at=hour.hour, as_of=as_of)
        origins = to_epoch(hour.hour) - np.arange(12, dtype=np.int64) * HOUR_S
        return fingerprint(build(bars, spec, origins))

    def look(hour: Hour) -> None:
        if to_epoch(hour.hour) // HOUR_S % every == 0:
            then.append((hour, table(hour, None)))

    _played(store, spec, model, target, other, 5, look)
    assert then
    for hour, was in then:
        assert table(hour, hour.closed_at) == was


def test_bars_as_of_a_close_are_what_was_read_then(store: Store) -> None:
    """From the record that a training reads once, for every hour, whatever came late or was revised."""
    late, after = cycle([0, 0, 1, 4, 90, 0, 400]), cycle([None, 10, None, 70, 500])
    plans = [[_Bar(next(late), next(after)) for _ in range(_LIVE_H)] for _ in range(2)]
    seen = _played(store, _spec("T", "X"), "m", plans[0], plans[1], 5)
    end = from_epoch(_FIRST + (_LIVE_H + 24) * HOUR_S)
    bars = store.read_recorded("m", ["T", "X"], known_at=end)
    for _, hour in seen.values():
        then = store.read_many(bars, known_at=end, as_of=hour.closed_at)
        assert bars_mark({s: part.as_of(hour.closed_at) for s, part in bars.items()}) == bars_mark(then)
    assert len(seen) > 10


def test_a_late_bar_is_no_news_of_its_own_hour(store: Store) -> None:
    """A bar that comes an hour late: the market counts as shut and the age is an hour more, in training as it was live."""
    bars = [_Bar(0, None)] * _LIVE_H
    late = [*bars[:20], _Bar(90, None), *bars[21:]]
    spec = _spec("T", "X")
    seen = _played(store, spec, "m", bars, late, 5)
    hour = _FIRST + 21 * HOUR_S
    assert seen[hour][1].given_up == ("X",)
    known = store.read_recorded("m", ["T", "X"], known_at=from_epoch(hour + HOUR_S))
    origins = np.array([hour - HOUR_S, hour, hour + HOUR_S])
    then = build(known, spec, origins).x[:, -1, -3:]
    assert then[:, 2].tolist() == [1, 0, 1]
    np.testing.assert_allclose(then[:, 1] * 30, [0.5, 1.5, 0.5], atol=1e-5)
    today = build(store.read_many(["T", "X"]), spec, origins).x[:, -1, -3:]
    assert today[:, 2].tolist() == [1, 1, 1]


def test_without_hours_bars_are_as_they_are(store: Store) -> None:
    """A stream that has no record, or a symbol without bars, is built from what is known today."""
    store.upsert_bars(random_walk("T", 300), "s", datetime(2024, 1, 1, tzinfo=UTC))
    found = store.read_recorded("m", ["T", "X"], known_at=datetime(2024, 1, 1, tzinfo=UTC))
    assert found["T"].seen is None
    assert len(found["T"]) == 300
    hour = from_epoch(int(found["T"].close_time[-1]))
    store.close_hour(
        Hour("m", hour, hour, hour, {"T": SeriesState("there", hour), "X": SeriesState("given_up", None)})
    )
    found = store.read_recorded("m", ["T", "X"], known_at=datetime(2024, 1, 1, tzinfo=UTC))
    spec = _spec("T", "X")
    made = build(found, spec, found["T"].close_time[-2:])
    plain = build(store.read_many(["T", "X"]), spec, found["T"].close_time[-2:])
    assert fingerprint(made) == fingerprint(plain)


def test_only_hours_that_were_seen_otherwise_are_built_alone() -> None:
    """A history that is loaded years later does not make every recorded hour differ: only bars near an hour count."""
    bars = random_walk("T", 24 * 365)
    hour = bars.close_time[-500:]
    came = bars.close_time * 1_000_000
    came[:-2000] = (bars.close_time[-1] + HOUR_S) * 1_000_000
    seen = Seen(bars, came, np.full(len(bars), STANDS), hour, hour * 1_000_000, hour)
    assert not seen.differs(200 * HOUR_S).any()
    came[-100] += 7200 * 1_000_000
    assert np.flatnonzero(seen.differs(200 * HOUR_S)).tolist() == [400, 401]
