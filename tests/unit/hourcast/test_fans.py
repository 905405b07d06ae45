"""A forecast is issued once an hour, and what stands is what everyone reads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from hourcast.store import Fan, Store, open_store
from tests.kept import kept_store

_HOUR = datetime(2025, 1, 6, 12, tzinfo=UTC)
_FAN = Fan(
    "m", "served", "BTC/USDT", _HOUR, 3, "20250106", _HOUR + timedelta(seconds=2), _HOUR, 100.1,
    (0.05, 0.5, 0.95), (1, 24), ((99.1, 100.2, 101.3), (90.1, 100.3, 110.7)), "issued", "ab12",
    {"as_of": "2025-01-06T11:00:00Z", "digest": "0f"}, "r", "naive", "d" * 16,
)  # fmt: skip


def test_the_first_fan_of_an_hour_stands(store_url: str) -> None:
    """Another version's fan of the same hour changes nothing, and its server is told what was issued, bit for bit."""
    with open_store(store_url) as one, open_store(store_url) as other:
        one.upgrade()
        assert one.issue([_FAN]) == [_FAN]
        late = replace(_FAN, version=4, last_close=7.0)
        after = replace(late, origin=_HOUR + timedelta(hours=1))
        assert other.issue([after, late, after]) == [after, _FAN, after]
        assert other.fans("m", "BTC/USDT") == [_FAN, after]


def test_another_model_role_or_symbol_has_fans_of_its_own(store: Store) -> None:
    """What one of them issued keeps none of the others from issuing the same hour."""
    others = [replace(_FAN, model="n"), replace(_FAN, role="shadow"), replace(_FAN, symbol="ETH/USDT")]
    assert store.issue([_FAN, *others]) == [_FAN, *others]
    assert store.fans("m", "BTC/USDT") == [_FAN]
    assert store.fans("m", "BTC/USDT", role="shadow") == [others[1]]


def test_servers_that_issue_at_the_same_moment_agree(store_url: str) -> None:
    """Eight servers issue the same hours in different orders: each hour has one fan, and all are told the same."""
    with open_store(store_url) as store:
        store.upgrade()
        hours = [_HOUR + timedelta(hours=h) for h in range(6)]

        def issue(version: int) -> list[Fan]:
            order = hours if version % 2 else hours[::-1]
            with open_store(store_url) as mine:
                return sorted(
                    mine.issue([replace(_FAN, version=version, origin=hour) for hour in order]),
                    key=lambda fan: fan.origin,
                )

        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(issue, range(8)))
        assert all(each == told[0] for each in told)
        assert store.fans("m", "BTC/USDT") == told[0]


def test_fans_are_read_by_origin_and_forecasts_by_target(store: Store) -> None:
    """A range of hours takes its start and not its end; a range of closes takes every horizon that reaches into it."""
    fans = [replace(_FAN, origin=_HOUR + timedelta(hours=h)) for h in range(4)]
    store.issue(fans[::-1])
    hour = timedelta(hours=1)
    assert store.fans("m", "BTC/USDT", start=_HOUR + hour, end=_HOUR + 3 * hour) == fans[1:3]
    found = store.forecasts("m", "BTC/USDT", start=_HOUR + 4 * hour, end=_HOUR + 25 * hour)
    assert [(r.origin, r.horizon) for r in found] == [(_HOUR + 3 * hour, 1), (_HOUR, 24)]
    assert [r.horizon for r in store.forecasts("m", "BTC/USDT", horizon=24)] == [24] * 4
    assert found[1].quantiles == _FAN.quantiles[1]


def test_no_read_walks_through_history(store: Store) -> None:
    """The database answers a range of hours from the key's index and looks at nothing before it."""
    statement = (
        "SELECT * FROM fans WHERE model = 'm' AND role = 'served' AND symbol = 'BTC/USDT' "
        "AND origin >= '2025-01-01' AND origin < '2025-02-01' ORDER BY origin"
    )
    store.issue([replace(_FAN, origin=_HOUR - timedelta(hours=h)) for h in range(400)])
    with store.engine.connect() as connection:
        if store.engine.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            assert [row[3] for row in plan] == [
                "SEARCH fans USING INDEX sqlite_autoindex_fans_1 "
                "(model=? AND role=? AND symbol=? AND origin>? AND origin<?)"
            ]
        else:
            (row,) = connection.execute(sa.text(f"EXPLAIN {statement}")).mappings().all()
            assert (row["type"], row["key"]) == ("range", "PRIMARY")


def test_what_release_0_1_0_recorded_first_is_what_was_issued(store_url: str) -> None:
    """Each hour's earliest forecast becomes its fan with every horizon and price; the old rows stay where they were."""
    with kept_store(store_url) as store:
        store.upgrade()
        old = store.recorded("hourcast")
        assert len(old) == 3048
        first = {r.origin: r for r in sorted(old, key=lambda r: (r.made_at, r.version), reverse=True)}
        fans = store.fans("hourcast", "BTC/USDT")
        assert [fan.origin for fan in fans] == sorted(first)
        for fan in fans:
            theirs = sorted(
                (r for r in old if (r.origin, r.version) == (fan.origin, first[fan.origin].version)),
                key=lambda r: r.horizon,
            )
            assert fan.rows() == theirs
            live = fan.issued_at < theirs[0].target_time
            assert fan.source == ("issued" if live else "reconstructed")
        assert {fan.source for fan in fans} == {"issued", "reconstructed"}
        assert {(fan.version, fan.kind) for fan in fans} == {(1, "naive"), (2, "ensemble"), (3, "ensemble")}
