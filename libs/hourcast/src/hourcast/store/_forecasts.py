"""The record of forecasts as they were issued."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hourcast.errors import UnavailableError
from hourcast.store import _schema as t
from hourcast.store._base import Connected
from hourcast.store._engine import run_transaction
from hourcast.store._rows import ForecastRow

__all__ = ["Fan", "ForecastRecord", "Role", "Source"]

Role = Literal["served", "shadow"]
"""What a forecast was made for: `served` is what users got; `shadow` is for a later release."""
Source = Literal["issued", "reconstructed"]
"""`issued` while its hour was the newest one; `reconstructed` when it was filled in after that."""

# As far as any forecast reaches: a fan for a close is of one of the hours before it.
_REACH = timedelta(hours=24)
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Fan:
    """What was said at `origin`, the hour that had just closed: `quantiles` (H, Q) are prices at `horizons` (H,) hours by `levels` (Q,).

    `issued_at` is by the clock setting, `wall_at` by the wall. `fingerprint` is that of the inputs
    (`hourcast.features.fingerprint`); `calibration` says how the intervals were stretched: `as_of`, the newest close that
    had taught it, and a `digest` of the shifts. What release 0.1.0 did not record is None.
    """

    model: str
    role: Role
    symbol: str
    origin: datetime
    version: int
    alias: str | None
    issued_at: datetime
    wall_at: datetime | None
    last_close: float
    levels: tuple[float, ...]
    horizons: tuple[int, ...]
    quantiles: tuple[tuple[float, ...], ...]
    source: Source = "issued"
    fingerprint: str | None = None
    calibration: Mapping[str, Any] | None = None
    run_id: str | None = None
    kind: str | None = None
    data_fingerprint: str | None = None

    def rows(self, only: int | None = None) -> list[ForecastRow]:
        """One row a horizon, or that of one horizon."""
        return [
            ForecastRow(
                self.model, self.version, self.symbol, self.origin, horizon, self.origin + timedelta(hours=horizon),
                self.issued_at, self.alias, self.last_close, self.levels, quantiles,
            )
            for horizon, quantiles in zip(self.horizons, self.quantiles, strict=True)
            if only in (None, horizon)
        ]  # fmt: skip


class ForecastRecord(Connected):
    """Forecasts as they were issued; serving is their only writer, and nobody changes one."""

    def issue(self, fans: Sequence[Fan]) -> list[Fan]:
        """Issue fans of hours that have none. The answer is what stands for each, the same for every caller.

        The first to write an hour wins, whatever its version. All are written in one transaction.

        Raises:
            UnavailableError: when nothing could be written.
        """

        def work(connection: Connection) -> list[Fan]:
            standing = self._standing(connection, fans)
            new = {_key(fan): fan for fan in reversed(fans) if _key(fan) not in standing}
            # In one order, so that two servers that write the same hours wait for each other and do not lock up.
            values = [_values(fan) for _, fan in sorted(new.items())]
            if values:
                connection.execute(sa.insert(t.fans), values)
            return [standing.get(_key(fan)) or new[_key(fan)] for fan in fans]

        for _ in range(_TRIES):
            try:
                return run_transaction(self._engine, work, writes=True)
            except IntegrityError:
                # Another server was faster; its fans can be read now.
                continue
        raise UnavailableError("the hours of these forecasts are being issued by others; try again", 1)

    @staticmethod
    def _standing(connection: Connection, fans: Sequence[Fan]) -> dict[tuple[Any, ...], Fan]:
        c = t.fans.c
        groups: dict[tuple[str, str, str], list[datetime]] = {}
        for fan in fans:
            groups.setdefault((fan.model, fan.role, fan.symbol), []).append(fan.origin)
        found = [
            _fan(row)
            for (model, role, symbol), origins in groups.items()
            for row in connection.execute(
                sa.select(t.fans).where(
                    c.model == model, c.role == role, c.symbol == symbol, c.origin.in_(origins)
                )
            )
        ]
        return {_key(fan): fan for fan in found}

    def fans(
        self,
        model: str,
        symbol: str,
        *,
        role: Role = "served",
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Fan]:
        """Fans with start <= origin < end, in order: a range of the key, whatever lies before it."""
        c = t.fans.c
        statement = sa.select(t.fans).where(c.model == model, c.role == role, c.symbol == symbol)
        if start is not None:
            statement = statement.where(c.origin >= start)
        if end is not None:
            statement = statement.where(c.origin < end)
        return [_fan(row) for row in self._read(statement.order_by(c.origin))]

    def forecasts(
        self,
        model: str,
        symbol: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        horizon: int | None = None,
    ) -> list[ForecastRow]:
        """Served forecasts with start <= target_time < end, one row a horizon, by target time."""
        fans = self.fans(model, symbol, start=None if start is None else start - _REACH, end=end)
        rows = [
            row
            for fan in fans
            for row in fan.rows(horizon)
            if (start is None or row.target_time >= start) and (end is None or row.target_time < end)
        ]
        return sorted(rows, key=lambda row: (row.target_time, row.horizon))

    def recorded(self, model: str) -> list[ForecastRow]:
        """What release 0.1.0 recorded, every version's forecasts, by target time; nothing is added to it any more."""
        c = t.forecasts.c
        statement = sa.select(t.forecasts).where(c.model == model)
        return [
            ForecastRow(**{**row._mapping, "levels": tuple(row.levels), "quantiles": tuple(row.quantiles)})
            for row in self._read(statement.order_by(c.target_time, c.version, c.horizon))
        ]


def _key(fan: Fan) -> tuple[Any, ...]:
    return fan.model, fan.role, fan.symbol, fan.origin


def _values(fan: Fan) -> dict[str, Any]:
    return {field.name: getattr(fan, field.name) for field in fields(fan)} | {
        "levels": list(fan.levels),
        "horizons": list(fan.horizons),
        "quantiles": np.array(fan.quantiles, "<f8").tobytes(),
        "calibration": None if fan.calibration is None else dict(fan.calibration),
    }


def _fan(row: sa.Row[Any]) -> Fan:
    quantiles = np.frombuffer(row.quantiles, "<f8").reshape(len(row.horizons), len(row.levels))
    told = {
        "levels": tuple(row.levels),
        "horizons": tuple(row.horizons),
        "quantiles": tuple(tuple(each) for each in quantiles.tolist()),
    }
    return Fan(**{**row._mapping, **told})
