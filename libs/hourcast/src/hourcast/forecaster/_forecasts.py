"""What comes out of a forecaster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.errors import DataError

__all__ = ["Forecasts", "refuse_unknown"]


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts from N origins.

    `origin` (N,) epoch seconds; `horizons` (H,) hours; `levels` (Q,); `last_close` (N,) and
    `quantiles` (N, H, Q) in the quote currency, not crossing. `fingerprints` (N,) of what was looked at; empty unless
    it was asked for.
    """

    origin: IntArray
    horizons: tuple[int, ...]
    levels: tuple[float, ...]
    last_close: FloatArray
    quantiles: FloatArray
    fingerprints: tuple[str, ...] = ()

    @property
    def target_time(self) -> IntArray:
        """(N, H) epoch seconds of the close that each forecast is for."""
        moments: IntArray = self.origin[:, None] + np.asarray(self.horizons, np.int64) * HOUR_S
        return moments

    @property
    def point(self) -> FloatArray:
        """(N, H): the median."""
        return self.quantiles[:, :, self.levels.index(0.5)]

    def only(self, horizons: Sequence[int]) -> "Forecasts":
        """The forecasts of some horizons.

        Raises:
            DataError: when one of them is not among ours.
        """
        wanted = tuple(horizons)
        refuse_unknown(wanted, self.horizons)
        chosen = [self.horizons.index(h) for h in wanted]
        some = self.quantiles[:, chosen]
        return Forecasts(self.origin, wanted, self.levels, self.last_close, some, self.fingerprints)


def refuse_unknown(wanted: Sequence[int], known: Sequence[int]) -> None:
    """Raise DataError when a horizon of `wanted` is not among `known`."""
    if unknown := sorted(set(wanted) - set(known)):
        raise DataError(
            f"horizons {unknown} are unknown; this model forecasts {known[0]} to {known[-1]} hours ahead"
        )
