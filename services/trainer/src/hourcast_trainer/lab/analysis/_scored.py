"""What each forecast of a walk came to.

One pass over the rows of a kind, a horizon at a time; what is left is small enough to keep for every kind at once, where the
quantiles themselves are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.errors import DataError
from hourcast.forecaster import LEVELS
from hourcast.verification import pinball
from hourcast_trainer.lab.walk.rows import WalkRows

__all__ = ["WIDTHS", "BoolArray", "Scored", "common_origins", "score", "winkler"]

BoolArray = npt.NDArray[np.bool_]

# The central intervals that are looked at, by the share of closes that each should hold.
WIDTHS = (0.5, 0.8, 0.9)


def winkler(actual: FloatArray, low: FloatArray, high: FloatArray, share: float) -> FloatArray:
    """Interval score of the central interval that should hold `share`: its width, and 2/(1-share) times any miss.

    Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 102 (2007), section 6.2, after
    Winkler, JASA 67 (1972). Lower is better; in the unit of `actual`.
    """
    miss = np.maximum(low - actual, 0) + np.maximum(actual - high, 0)
    scores: FloatArray = high - low + 2 / (1 - share) * miss
    return scores


@dataclass(frozen=True, slots=True)
class Scored:
    """The forecasts of one kind from N origins over H horizons, against what came.

    `came` (N, H) says where a close came; elsewhere floats are NaN and the rest says nothing. `pinball`, `winkler` (of the 90 %
    interval), `off` (median less actual) and `width` (of the 90 % interval) are (N, H) in quote currency. `within` (3, N, H) says
    whether the interval of each of `WIDTHS` held the close. `above` (N, H) counts the quantiles that the close was above, 0 … Q:
    the bin of its probability integral transform. What begins with `raw_` is the same before online calibration.
    """

    kind: str
    origin: IntArray
    last_close: FloatArray
    came: BoolArray
    pinball: FloatArray
    winkler: FloatArray
    off: FloatArray
    width: FloatArray
    within: BoolArray
    above: npt.NDArray[np.int8]
    raw_pinball: FloatArray
    raw_winkler: FloatArray
    raw_within: BoolArray

    def __len__(self) -> int:
        return int(self.origin.shape[0])

    @property
    def horizons(self) -> int:
        """H."""
        return int(self.came.shape[1])

    def take(self, index: IntArray) -> "Scored":
        """The forecasts at `index`."""
        if len(index) == len(self):
            return self
        kept = {
            f.name: getattr(self, f.name)[:, index]
            if f.name.endswith("within")
            else getattr(self, f.name)[index]
            for f in fields(self)
            if f.name != "kind"
        }
        return Scored(self.kind, **kept)

    def between(self, start_s: int, end_s: int) -> BoolArray:
        """(N, H): forecasts made at or after `start_s` whose close came no later than `end_s`."""
        ahead = np.arange(1, self.horizons + 1, dtype=np.int64) * HOUR_S
        inside: BoolArray = (
            self.came & (self.origin >= start_s)[:, None] & (self.origin[:, None] + ahead <= end_s)
        )
        return inside


def score(rows: WalkRows, levels: Sequence[float] = LEVELS) -> Scored:
    """Score every forecast of `rows`, whose quantiles are of `levels`.

    Raises:
        DataError: when origins are not ascending, shapes do not fit or a forecast is not a number.
    """
    n, h, q = rows.returns.shape
    if (
        q != len(levels)
        or rows.raw.shape != (n, h, q)
        or rows.actual.shape != (n, h)
        or len(rows.origin) != n
    ):
        raise DataError(
            f"rows of {rows.kind} do not fit together: returns {rows.returns.shape}, raw {rows.raw.shape}, "
            f"actual {rows.actual.shape}, {len(rows.origin)} origins, {len(levels)} levels"
        )
    if np.any(np.diff(rows.origin) <= 0):
        raise DataError(f"origins of {rows.kind} are not ascending; put the folds in order of time")
    names = list(levels)
    middle = names.index(0.5)
    pairs = [(names.index(round((1 - w) / 2, 4)), names.index(round((1 + w) / 2, 4))) for w in WIDTHS]
    came = np.isfinite(rows.actual)
    floats = {name: np.full((n, h), np.nan) for name in ("pinball", "winkler", "off", "width")}
    raw = {name: np.full((n, h), np.nan) for name in ("pinball", "winkler")}
    within, raw_within = (np.zeros((len(WIDTHS), n, h), bool) for _ in range(2))
    above = np.zeros((n, h), np.int8)
    low, high = pairs[-1]
    for i in range(h):
        at = came[:, i]
        actual, last = rows.actual[at, i], rows.last_close[at, None]
        for made, to, inside in ((rows.returns, floats, within), (rows.raw, raw, raw_within)):
            # Walks are kept as float32.
            prices = last * np.exp(made[at, i].astype(np.float64))
            if not np.isfinite(prices).all():
                raise DataError(f"a forecast of {rows.kind} {i + 1} h ahead is not a number; walk it again")
            to["pinball"][at, i] = pinball(actual, prices, levels)
            to["winkler"][at, i] = winkler(actual, prices[:, low], prices[:, high], WIDTHS[-1])
            for k, (a, b) in enumerate(pairs):
                inside[k, at, i] = (actual >= prices[:, a]) & (actual <= prices[:, b])
            if made is rows.returns and to is floats:
                floats["off"][at, i] = prices[:, middle] - actual
                floats["width"][at, i] = prices[:, high] - prices[:, low]
                above[at, i] = (actual[:, None] > prices).sum(axis=1)
    return Scored(
        kind=rows.kind,
        origin=rows.origin,
        last_close=rows.last_close,
        came=came,
        pinball=floats["pinball"],
        winkler=floats["winkler"],
        off=floats["off"],
        width=floats["width"],
        within=within,
        above=above,
        raw_pinball=raw["pinball"],
        raw_winkler=raw["winkler"],
        raw_within=raw_within,
    )


def common_origins(parts: Sequence[Scored]) -> list[Scored]:
    """The parts cut to the origins that all of them have.

    Raises:
        DataError: when they share none, or do not agree on what came.
    """
    shared = parts[0].origin
    for part in parts[1:]:
        shared = np.intersect1d(shared, part.origin)
    if not len(shared):
        raise DataError(f"{', '.join(p.kind for p in parts)} share no origin; walk them over the same span")
    cut = [p.take(np.flatnonzero(np.isin(p.origin, shared)).astype(np.int64)) for p in parts]
    for part in cut[1:]:
        if not np.array_equal(part.came, cut[0].came) or not np.array_equal(
            part.last_close, cut[0].last_close
        ):
            raise DataError(
                f"{part.kind} and {cut[0].kind} were walked over different bars; walk both again with the same data"
            )
    return cut
