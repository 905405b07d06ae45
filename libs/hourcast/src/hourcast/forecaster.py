"""The forecaster: a directory with `spec.json` and, unless naive, `network.onnx`.

It runs on onnxruntime and numpy alone; nothing is unpickled. A forecast of horizon h from origin t is a set
of quantiles of the close at t + h hours, anchored to the close at t.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hourcast.contracts import HOUR_S, Bars, FloatArray, Golden, IntArray, from_epoch
from hourcast.errors import DataError
from hourcast.features import FeatureSpec, build, hour_of_week, hourly_grid, why_unusable

__all__ = [
    "HORIZONS",
    "LEVELS",
    "Forecaster",
    "ForecasterSpec",
    "Forecasts",
    "TrainingSpan",
    "check_golden",
    "golden_from_json",
    "horizon_scale",
    "load",
    "make_golden",
    "naive_quantiles",
    "save",
]

LEVELS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
HORIZONS: tuple[int, ...] = tuple(range(1, 25))
NAIVE_WINDOW_H = 720
_SPEC, _NETWORK = "spec.json", "network.onnx"
_BATCH = 4096


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingSpan(_Closed):
    """What a model was trained on: origins from `start` to `end`, and how many."""

    start: AwareDatetime
    end: AwareDatetime
    rows: int


class ForecasterSpec(_Closed):
    """Everything about a forecaster but the network's weights.

    `calibration` (horizons, levels) multiplies each quantile's distance from the median; `median_shrink` in
    [0, 1] multiplies the median itself, 0 meaning that the point forecast is the last close.
    """

    schema_version: Literal[1] = 1
    kind: Literal["lstm", "naive"]
    target: str
    horizons: tuple[int, ...] = HORIZONS
    levels: tuple[float, ...] = LEVELS
    naive_window_h: Annotated[int, Field(ge=48)] = NAIVE_WINDOW_H
    features: FeatureSpec | None = None
    calibration: tuple[tuple[float, ...], ...] | None = None
    median_shrink: Annotated[float, Field(ge=0, le=1)] = 0.0
    training: TrainingSpan
    trained_through: date
    decided_at: AwareDatetime
    data_fingerprint: str
    code_version: str
    seed: int
    synthetic: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if tuple(sorted(set(self.horizons))) != self.horizons or self.horizons[0] < 1:
            raise ValueError("horizons must be positive, ascending and distinct")
        if tuple(sorted(set(self.levels))) != self.levels or 0.5 not in self.levels:
            raise ValueError("levels must be ascending and distinct and hold 0.5")
        if self.kind != "naive" and self.features is None:
            raise ValueError(f"a forecaster of kind {self.kind} needs features")
        if self.calibration is not None and (
            np.asarray(self.calibration).shape != (len(self.horizons), len(self.levels))
        ):
            raise ValueError("calibration must have the shape (horizons, levels)")
        return self

    @property
    def history_h(self) -> int:
        """Hours of bars before an origin that a forecast needs."""
        if self.features is not None:
            return self.features.history_h
        return self.naive_window_h + max(self.horizons) + 1

    @property
    def symbols(self) -> tuple[str, ...]:
        """The target first, then every exogenous series that the model looks at."""
        others = self.features.exogenous if self.features is not None else ()
        return (self.target, *(feature.symbol for feature in others))


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Forecasts from N origins.

    `origin` (N,) epoch seconds; `horizons` (H,) hours; `levels` (Q,); `last_close` (N,) and
    `quantiles` (N, H, Q) in the quote currency, not crossing.
    """

    origin: IntArray
    horizons: tuple[int, ...]
    levels: tuple[float, ...]
    last_close: FloatArray
    quantiles: FloatArray

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
        _refuse_unknown(wanted, self.horizons)
        chosen = [self.horizons.index(h) for h in wanted]
        return Forecasts(self.origin, wanted, self.levels, self.last_close, self.quantiles[:, chosen])


def _refuse_unknown(wanted: Sequence[int], known: Sequence[int]) -> None:
    if unknown := sorted(set(wanted) - set(known)):
        raise DataError(
            f"horizons {unknown} are unknown; this model forecasts {known[0]} to {known[-1]} hours ahead"
        )


def horizon_scale(spec: FeatureSpec, origins: IntArray, horizons: Sequence[int]) -> FloatArray:
    """(N, H): the root of the summed squared seasonal factors over the hours of each horizon."""
    ahead = np.arange(1, max(horizons) + 1, dtype=np.int64) * HOUR_S
    factors = np.asarray(spec.seasonal)[hour_of_week(origins[:, None] + ahead)]
    total: FloatArray = np.sqrt(np.cumsum(factors**2, axis=1))
    return total[:, np.asarray(horizons) - 1]


def naive_quantiles(
    bars: Bars,
    origins: IntArray,
    horizons: Sequence[int] = HORIZONS,
    levels: Sequence[float] = LEVELS,
    window_h: int = NAIVE_WINDOW_H,
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The naive floor: the last close, with the quantiles of the last `window_h` h-hour log-returns around it.

    The quantiles are centred on their median, so that the point forecast is exactly "the price stays".

    Returns:
        prices (N, H, Q), last close (N,), and which origins have enough history (N,).
    """
    origins = np.asarray(origins, np.int64)
    need = window_h + max(horizons)
    earliest = int(origins.min()) - (need + 1) * HOUR_S
    recent = bars.take(slice(int(np.searchsorted(bars.close_time, earliest)), None))
    grid = hourly_grid(recent, int(origins.max()))
    place = grid.index(origins)
    inside = (place >= need) & (place < len(grid.close_time))
    safe = np.where(inside, place, 0)
    usable = inside & grid.real[safe]
    last = grid.close[safe]
    log_close = np.log(grid.close)
    out = np.repeat(last[:, None], len(horizons) * len(levels), axis=1)
    prices = out.reshape(len(origins), len(horizons), len(levels))
    good = np.flatnonzero(usable)
    centre = list(levels).index(0.5)
    for i, h in enumerate(horizons):
        change = log_close[h:] - log_close[:-h]
        if len(change) < window_h:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(change, window_h)
        for first in range(0, len(good), _BATCH):
            part = good[first : first + _BATCH]
            chosen = windows[safe[part] - h - window_h + 1]
            spread = np.quantile(chosen, levels, axis=1).T
            spread -= spread[:, centre : centre + 1]
            prices[part, i] = last[part, None] * np.exp(spread)
    return prices, last, usable


class Forecaster:
    """A loaded forecaster. `predict` may be called from several threads at once."""

    def __init__(self, spec: ForecasterSpec, network: bytes | None) -> None:
        self.spec = spec
        self._network = network
        self._session: Any = None
        if spec.kind == "naive":
            if network is not None:
                raise DataError("a naive forecaster has no network, but network.onnx is there")
            return
        if network is None:
            raise DataError(f"a forecaster of kind {spec.kind} needs network.onnx, which is missing")
        assert spec.features is not None
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a class for each of its many reasons
            raise DataError(f"network.onnx cannot be loaded: {str(error).splitlines()[0][:200]}") from None
        given = [(i.name, list(i.shape)[1:]) for i in self._session.get_inputs()]
        made = [(o.name, list(o.shape)[1:]) for o in self._session.get_outputs()]
        wanted = [("x", [spec.features.window, spec.features.width])]
        promised = [("z", [len(spec.horizons), len(spec.levels)])]
        if given != wanted or made != promised:
            raise DataError(
                f"network.onnx maps {given} to {made}, but spec.json asks for {wanted} to {promised}"
            )

    @property
    def fingerprint(self) -> str:
        """SHA-256 over spec and network, 16 hex digits."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        digest.update(self._network or b"")
        return digest.hexdigest()[:16]

    def predict(
        self,
        bars: Mapping[str, Bars],
        origins: IntArray | None = None,
        horizons: Sequence[int] | None = None,
        *,
        skip_unusable: bool = False,
    ) -> Forecasts:
        """Forecast from each origin with one run of the network.

        Args:
            bars: bars by symbol; only what was known at an origin is used for it.
            origins: (N,) epoch seconds, close times of target bars; default: the newest close.
            horizons: which of the spec's horizons; default: all.
            skip_unusable: leave out origins that lack history, instead of refusing them.

        Raises:
            DataError: when an origin lacks history, a horizon is unknown, or the network gives no number.
        """
        spec = self.spec
        target = bars.get(spec.target, Bars.empty(spec.target))
        if not len(target):
            raise DataError(f"there are no bars of {spec.target}; run `hourcast etl run`")
        wanted = tuple(spec.horizons if horizons is None else horizons)
        _refuse_unknown(wanted, spec.horizons)
        at = target.close_time[-1:] if origins is None else np.asarray(origins, np.int64)
        if not len(at):
            shape = (0, len(wanted), len(spec.levels))
            return Forecasts(at, wanted, spec.levels, np.empty(0), np.empty(shape))
        if spec.kind == "naive":
            quantiles, last, usable = naive_quantiles(target, at, wanted, spec.levels, spec.naive_window_h)
            if not skip_unusable and not usable.all():
                moment = from_epoch(at[~usable][0]).isoformat()
                raise DataError(
                    f"a forecast from {moment} needs {spec.history_h} hours of {spec.target} before it; "
                    "run `hourcast etl gaps`"
                )
        else:
            quantiles, last, usable = self._network_quantiles(bars, at, wanted, skip_unusable)
        if skip_unusable:
            at, last, quantiles = at[usable], last[usable], quantiles[usable]
        if not np.isfinite(quantiles).all():
            raise DataError(f"the {spec.kind} model gave a value that is not a number")
        return Forecasts(at, wanted, spec.levels, last, quantiles)

    def _network_quantiles(
        self, bars: Mapping[str, Bars], at: IntArray, wanted: tuple[int, ...], skip_unusable: bool
    ) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
        spec = self.spec
        assert spec.features is not None
        features = build(bars, spec.features, at)
        if not skip_unusable and not features.usable.all():
            first = int(at[~features.usable][0])
            raise DataError(why_unusable(bars[spec.target], spec.features, first))
        z = self.run_network(features.x)
        chosen = [spec.horizons.index(h) for h in wanted]
        z = self.adjust(z)[:, chosen]
        scale = features.sigma[:, None] * horizon_scale(spec.features, at, wanted)
        change = z * scale[:, :, None]
        return features.last_close[:, None, None] * np.exp(change), features.last_close, features.usable

    def run_network(self, x: np.ndarray[Any, np.dtype[np.float32]]) -> FloatArray:
        """The network's raw z (N, horizons, levels) for features x (N, window, width)."""
        parts = [self._session.run(["z"], {"x": x[i : i + _BATCH]})[0] for i in range(0, len(x), _BATCH)]
        z: FloatArray = np.concatenate(parts).astype(np.float64)
        return z

    def adjust(self, z: FloatArray) -> FloatArray:
        """Apply shrinkage and calibration to the network's z (N, H, Q), and keep quantiles from crossing."""
        centre = self.spec.levels.index(0.5)
        median = z[:, :, centre : centre + 1]
        spread = z - median
        if self.spec.calibration is not None:
            spread = spread * np.asarray(self.spec.calibration)
        return np.sort(median * self.spec.median_shrink + spread, axis=2)


def save(directory: Path, spec: ForecasterSpec, network: bytes | None) -> None:
    """Write a forecaster's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _SPEC).write_text(spec.model_dump_json(indent=1))
    if network is not None:
        (directory / _NETWORK).write_bytes(network)


def load(directory: Path) -> Forecaster:
    """Load a forecaster's directory.

    Raises:
        DataError: when a file is missing, is not what it should be, or the two do not fit each other.
    """
    try:
        spec = ForecasterSpec.model_validate_json((directory / _SPEC).read_bytes())
    except FileNotFoundError:
        raise DataError("spec.json is missing; this is no forecaster") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "spec"
        raise DataError(f"spec.json is not valid: {where}: {problem['msg']}") from None
    network = directory / _NETWORK
    return Forecaster(spec, network.read_bytes() if network.exists() else None)


def make_golden(forecaster: Forecaster, bars: Mapping[str, Bars], origin_s: int) -> Golden:
    """An input (only the bars that the forecast needs) and the output that `forecaster` gives for it."""
    start = origin_s - (forecaster.spec.history_h + 2) * HOUR_S
    needed: dict[str, Bars] = {}
    for symbol in forecaster.spec.symbols:
        known = bars.get(symbol, Bars.empty(symbol)).known_at(origin_s)
        early = start if symbol == forecaster.spec.target else start - 7 * 24 * HOUR_S
        needed[symbol] = known.take(slice(int(np.searchsorted(known.close_time, early)), None))
    forecast = forecaster.predict(needed, np.array([origin_s], np.int64))
    return Golden(
        bars={symbol: part.to_json() for symbol, part in needed.items()},
        origin=origin_s,
        quantiles=forecast.quantiles[0].tolist(),
    )


def check_golden(forecaster: Forecaster, golden: Golden) -> None:
    """Make sure that `forecaster` still gives the golden output.

    Raises:
        DataError: naming the largest difference, when it does not.
    """
    bars = {symbol: Bars.from_json(part) for symbol, part in golden.bars.items()}
    got = forecaster.predict(bars, np.array([golden.origin], np.int64)).quantiles[0]
    want = np.asarray(golden.quantiles)
    if got.shape != want.shape:
        raise DataError(f"golden prediction has shape {got.shape}, but {want.shape} was recorded")
    off = np.abs(got - want) / np.abs(want)
    if not np.all(off <= golden.rtol):
        raise DataError(
            f"golden prediction differs by {float(off.max()):.2e} of the price, more than {golden.rtol:.0e}"
        )


def golden_from_json(text: str | bytes) -> Golden:
    """Read a golden file.

    Raises:
        DataError: when it is not one.
    """
    try:
        return Golden.model_validate(json.loads(text))
    except (ValueError, ValidationError):
        raise DataError("golden.json is not a golden prediction") from None
