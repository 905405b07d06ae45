"""Fans for tests that think in rows of one horizon."""

from collections.abc import Iterable

from hourcast.store import Fan, ForecastRow

__all__ = ["fans_of"]


def fans_of(rows: Iterable[ForecastRow]) -> list[Fan]:
    """Fans that hold these rows, one an hour and version, those that were made first first.

    Each counts as issued when it was made before the first of its closes.
    """
    groups: dict[tuple[object, ...], list[ForecastRow]] = {}
    for row in sorted(rows, key=lambda r: (r.made_at, r.version, r.origin, r.horizon)):
        groups.setdefault((row.model, row.symbol, row.origin, row.version), []).append(row)
    return [
        Fan(
            model=first.model, role="served", symbol=first.symbol, origin=first.origin, version=first.version,
            alias=first.alias, issued_at=first.made_at, wall_at=first.made_at, last_close=first.last_close,
            levels=first.levels, horizons=tuple(r.horizon for r in group),
            quantiles=tuple(r.quantiles for r in group),
            source="issued" if first.made_at < first.target_time else "reconstructed",
        )
        for group in groups.values()
        for first in group[:1]
    ]  # fmt: skip
