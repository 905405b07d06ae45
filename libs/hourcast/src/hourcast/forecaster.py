"""The forecaster: a directory with `spec.json`, `network.onnx` where the kind has one, and `members/<kind>/` of an ensemble.

It runs on onnxruntime and numpy alone; nothing is unpickled. A forecast of horizon h from origin t is a set
of quantiles of the close at t + h hours, anchored to the close at t: the last close times exp(scale * z), where the
scale says how wide returns are expected to be now (`hourcast.volatility`) and z is the model's.
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

from hourcast import __version__
from hourcast.conformal import ConformalState, shifted
from hourcast.contracts import HOUR_S, Bars, FloatArray, Golden, IntArray, from_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.features import (
    Features,
    FeatureSpec,
    build,
    fingerprint,
    hourly_grid,
    seen_otherwise,
    why_unusable,
)
from hourcast.volatility import season

__all__ = [
    "HORIZONS",
    "LEVELS",
    "SCHEMA",
    "Forecaster",
    "ForecasterSpec",
    "Forecasts",
    "Kind",
    "Looked",
    "Member",
    "TrainingSpan",
    "check_golden",
    "golden_from_json",
    "load",
    "make_golden",
    "naive_quantiles",
    "save",
]

LEVELS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
HORIZONS: tuple[int, ...] = tuple(range(1, 25))
NAIVE_WINDOW_H = 720
SCHEMA = 2
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""A kind of model. It is a name alone, and a folder's: what a specification holds says how it forecasts."""

_WITHOUT_Z = ("ensemble", "naive")
_SPEC, _NETWORK, _MEMBERS = "spec.json", "network.onnx", "members"
_BATCH = 4096


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingSpan(_Closed):
    """What a model was trained on: origins from `start` to `end`, and how many."""

    start: AwareDatetime
    end: AwareDatetime
    rows: int


class Member(_Closed):
    """One part of an ensemble: its kind, which names its folder, and its weight at each horizon."""

    kind: Kind
    weights: tuple[Annotated[float, Field(ge=0, le=1)], ...]


class ForecasterSpec(_Closed):
    """Everything about a forecaster but the network's weights.

    `base` (horizons, levels) is z itself where there is no network, as of kind `volatility`. `calibration` (horizons,
    levels) multiplies each quantile's distance from the median, `conformal` goes on from there as closes come;
    `median_shrink` in [0, 1] multiplies the median itself, 0 meaning that the point forecast is the last close.
    """

    schema_version: Literal[2] = 2
    kind: Kind
    target: str
    horizons: tuple[int, ...] = HORIZONS
    levels: tuple[float, ...] = LEVELS
    naive_window_h: Annotated[int, Field(ge=48)] = NAIVE_WINDOW_H
    features: FeatureSpec | None = None
    base: tuple[tuple[float, ...], ...] | None = None
    members: tuple[Member, ...] = ()
    calibration: tuple[tuple[float, ...], ...] | None = None
    conformal: ConformalState | None = None
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
        if tuple(sorted(set(self.horizons))) != self.horizons or min(self.horizons, default=0) < 1:
            raise ValueError("horizons must be positive, ascending and distinct")
        if tuple(sorted(set(self.levels))) != self.levels or 0.5 not in self.levels:
            raise ValueError("levels must be ascending and distinct and hold 0.5")
        if self.kind not in _WITHOUT_Z and self.features is None:
            raise ValueError(f"a forecaster of kind {self.kind} needs features")
        if self.features is not None and self.features.target != self.target:
            raise ValueError("features must be of the same target")
        if self.features is not None and self.features.volatility.horizons != self.horizons:
            raise ValueError("features must hold a volatility of the same horizons")
        for name in ("base", "calibration"):
            table = getattr(self, name)
            if table is not None and [len(row) for row in table] != [len(self.levels)] * len(self.horizons):
                raise ValueError(f"{name} must have the shape (horizons, levels)")
        if self.base is not None and self.kind in _WITHOUT_Z:
            raise ValueError(f"a forecaster of kind {self.kind} has no base")
        if self.kind == "volatility" and self.base is None:
            raise ValueError("a forecaster of kind volatility needs base")
        if (self.kind == "ensemble") != bool(self.members):
            raise ValueError("members belong to the kind ensemble, and to no other")
        if self.members:
            if len({member.kind for member in self.members}) < len(self.members):
                raise ValueError("members must be of different kinds")
            fit = all(len(member.weights) == len(self.horizons) for member in self.members)
            if not fit or not np.allclose(np.sum([member.weights for member in self.members], axis=0), 1):
                raise ValueError("members' weights must sum to 1 at each horizon")
        if self.conformal is not None and (
            self.conformal.horizons != self.horizons or self.conformal.levels != self.levels
        ):
            raise ValueError("conformal must have the same horizons and levels")
        return self

    @property
    def has_network(self) -> bool:
        """Whether z comes from `network.onnx`: of every kind that gives a z and has no `base`."""
        return self.kind not in _WITHOUT_Z and self.base is None

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
        _refuse_unknown(wanted, self.horizons)
        chosen = [self.horizons.index(h) for h in wanted]
        some = self.quantiles[:, chosen]
        return Forecasts(self.origin, wanted, self.levels, self.last_close, some, self.fingerprints)


@dataclass(frozen=True, slots=True)
class Looked:
    """What a forecaster looks at from N origins: features by specification, in order, and `fingerprints` (N,)."""

    tables: Mapping[FeatureSpec, Features]
    fingerprints: tuple[str, ...]


def _refuse_unknown(wanted: Sequence[int], known: Sequence[int]) -> None:
    if unknown := sorted(set(wanted) - set(known)):
        raise DataError(
            f"horizons {unknown} are unknown; this model forecasts {known[0]} to {known[-1]} hours ahead"
        )


def naive_quantiles(
    bars: Bars,
    origins: IntArray,
    horizons: Sequence[int] = HORIZONS,
    levels: Sequence[float] = LEVELS,
    window_h: int = NAIVE_WINDOW_H,
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    """The naive floor: the last close, with the quantiles of the last `window_h` h-hour log-returns around it.

    The quantiles are centred on their median, so that the point forecast is exactly "the price stays". As in
    `hourcast.features.build`, a recorded hour is forecast from the bars as they were at its close.

    Returns:
        prices (N, H, Q), last close (N,), and which origins have enough history (N,).
    """
    origins = np.asarray(origins, np.int64)
    made = _naive_quantiles(bars, origins, horizons, levels, window_h)
    within_s = (window_h + max(horizons) + 1) * HOUR_S
    for i, then in seen_otherwise({bars.symbol: bars}, within_s, origins):
        if not len(then[bars.symbol]):
            made[2][i] = False
            continue
        one = _naive_quantiles(then[bars.symbol], origins[[i]], horizons, levels, window_h)
        for whole, part in zip(made, one, strict=True):
            whole[i] = part[0]
    return made


def _naive_quantiles(
    bars: Bars, origins: IntArray, horizons: Sequence[int], levels: Sequence[float], window_h: int
) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
    need = window_h + max(horizons)
    earliest = int(origins.min()) - (need + 1) * HOUR_S
    # From the bar that was the newest then, so that a hole there does not depend on how much history was read.
    first = int(np.searchsorted(bars.close_time, earliest, side="right")) - 1
    grid = hourly_grid(bars.take(slice(max(first, 0), None)), int(origins.max()))
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


def _naive_fingerprint(bars: Bars, origins: IntArray, need_h: int) -> tuple[str, ...]:
    """One mark for each origin of the closes that the naive floor looks at; that of an unusable origin means nothing."""
    earliest = int(origins.min()) - (need_h + 1) * HOUR_S
    first = int(np.searchsorted(bars.close_time, earliest, side="right")) - 1
    grid = hourly_grid(bars.take(slice(max(first, 0), None)), int(origins.max()))
    closes = np.ascontiguousarray(grid.close, dtype="<f8")
    ends = grid.index(origins) + 1
    return tuple(
        hashlib.sha256(closes[max(end - need_h - 1, 0) : max(end, 0)].tobytes()).hexdigest()[:16]
        for end in ends.tolist()
    )


def _floor_fingerprint(target: Bars, origins: IntArray, need_h: int) -> tuple[str, ...]:
    """The same from bars that may come with how they looked when an hour was closed, as features do."""
    marks, seen = list(_naive_fingerprint(target, origins, need_h)), target.seen
    if seen is not None:
        for i in np.flatnonzero(np.isin(origins, seen.hour)).tolist():
            then = seen.at(int(np.searchsorted(seen.hour, origins[i])))
            if len(then):
                marks[i] = _naive_fingerprint(then, origins[i : i + 1], need_h)[0]
    return tuple(marks)


class Forecaster:
    """A loaded forecaster. `predict` may be called from several threads at once."""

    def __init__(
        self, spec: ForecasterSpec, network: bytes | None = None, members: Sequence["Forecaster"] = ()
    ) -> None:
        self.spec = spec
        self.members = tuple(members)
        self._network = network
        self._session: Any = None
        kinds, wanted_kinds = [m.spec.kind for m in self.members], [m.kind for m in spec.members]
        if kinds != wanted_kinds:
            raise DataError(f"an ensemble of {wanted_kinds} got {kinds}")
        for member in self.members:
            theirs = member.spec
            if (theirs.target, theirs.horizons, theirs.levels) != (spec.target, spec.horizons, spec.levels):
                raise DataError(f"the member {theirs.kind} forecasts something else than its ensemble")
        if not spec.has_network:
            if network is not None:
                raise DataError(f"a forecaster of kind {spec.kind} has no network, but network.onnx is there")
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
        """SHA-256 over spec, network and members, 16 hex digits."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        digest.update(self._network or b"")
        for member in self.members:
            digest.update(member.fingerprint.encode())
        return digest.hexdigest()[:16]

    @property
    def history_h(self) -> int:
        """Hours of bars before an origin that a forecast needs."""
        return max((m.history_h for m in self.members), default=self.spec.history_h)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The target first, then every exogenous series that the model or a member looks at."""
        found = (*self.spec.symbols, *(s for m in self.members for s in m.symbols))
        return tuple(dict.fromkeys(found))

    def predict(
        self,
        bars: Mapping[str, Bars],
        origins: IntArray | None = None,
        horizons: Sequence[int] | None = None,
        *,
        skip_unusable: bool = False,
        shift: FloatArray | None = None,
        fingerprints: bool = False,
    ) -> Forecasts:
        """Forecast from each origin with one run of the network.

        Args:
            bars: bars by symbol; only what was known at an origin is used for it.
            origins: (N,) epoch seconds, close times of target bars; default: the newest close.
            horizons: which of the spec's horizons; default: all.
            skip_unusable: leave out origins that lack history, instead of refusing them.
            shift: conformal shift (H, Q) or (N, H, Q) over the spec's horizons and levels; default: that of the
                spec's own state. Ignored by the naive floor, which is the reference.
            fingerprints: say of each origin what was looked at: `features.fingerprint` of a model with one table of
                features, one mark of all tables and the floor's closes where an ensemble has several.

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
        built: dict[FeatureSpec, Features] = {}
        if spec.kind == "naive":
            quantiles, last, usable = self._naive(target, at, wanted, skip_unusable)
        else:
            returns, last, usable = self._returns(bars, at, wanted, skip_unusable, built)
            if shift is None and spec.conformal is not None:
                shift = spec.conformal.table
            if shift is not None:
                chosen = [spec.horizons.index(h) for h in wanted]
                returns = shifted(returns, shift[..., chosen, :], spec.levels.index(0.5))
            quantiles = last[:, None, None] * np.exp(returns)
        marks = self._fingerprints(target, at, built) if fingerprints else ()
        if skip_unusable:
            marks = tuple(mark for mark, keep in zip(marks, usable, strict=False) if keep)
            at, last, quantiles = at[usable], last[usable], quantiles[usable]
        if not np.isfinite(quantiles).all():
            raise DataError(f"the {spec.kind} model gave a value that is not a number")
        return Forecasts(at, wanted, spec.levels, last, quantiles, marks)

    @property
    def feature_specs(self) -> Mapping[FeatureSpec, str]:
        """Each table of features that a forecast looks at, with the kind of the first that does; none for the naive floor."""
        if self.spec.kind == "ensemble":
            found: dict[FeatureSpec, str] = {}
            for member in self.members:
                for spec, kind in member.feature_specs.items():
                    found.setdefault(spec, kind)
            return found
        return {} if self.spec.features is None else {self.spec.features: self.spec.kind}

    def look(self, bars: Mapping[str, Bars], origins: IntArray) -> "Looked":
        """What a forecast from each origin looks at, and the fingerprint that it carries; nothing is forecast.

        Raises:
            DataError: when there are no bars of the target.
        """
        built = {spec: build(bars, spec, origins) for spec in self.feature_specs}
        return Looked(built, self._fingerprints(bars[self.spec.target], origins, built))

    def _fingerprints(
        self, target: Bars, at: IntArray, built: Mapping[FeatureSpec, Features]
    ) -> tuple[str, ...]:
        floors = [each.spec for each in (self, *self.members) if each.spec.kind == "naive"]
        tables = [fingerprint(features) for features in built.values()]
        tables += [_floor_fingerprint(target, at, s.naive_window_h + max(s.horizons)) for s in floors]
        if len(tables) == 1:
            return tables[0]
        return tuple(
            hashlib.sha256("".join(marks).encode()).hexdigest()[:16] for marks in zip(*tables, strict=True)
        )

    def _naive(
        self, target: Bars, at: IntArray, wanted: tuple[int, ...], skip_unusable: bool
    ) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
        spec = self.spec
        prices, last, usable = naive_quantiles(target, at, wanted, spec.levels, spec.naive_window_h)
        if not skip_unusable and not usable.all():
            moment = from_epoch(at[~usable][0]).isoformat()
            raise DataError(
                f"a forecast from {moment} needs {spec.history_h} hours of {spec.target} before it; "
                "run `hourcast etl gaps`"
            )
        return prices, last, usable

    def _returns(
        self,
        bars: Mapping[str, Bars],
        at: IntArray,
        wanted: tuple[int, ...],
        skip_unusable: bool,
        built: dict[FeatureSpec, Features],
    ) -> tuple[FloatArray, FloatArray, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Quantiles (N, h, Q) of log-returns before the conformal shift, last close and usable (N,).

        `built` keeps features by their specification, since an ensemble's members mostly share one.
        """
        spec = self.spec
        chosen = [spec.horizons.index(h) for h in wanted]
        if spec.kind == "ensemble":
            parts = [m._returns(bars, at, wanted, skip_unusable, built) for m in self.members]
            returns = sum(
                np.asarray(member.weights)[None, chosen, None] * part[0]
                for member, part in zip(spec.members, parts, strict=True)
            )
            usable = np.logical_and.reduce([part[2] for part in parts])
            return self.adjust(np.asarray(returns), wanted), parts[0][1], usable
        if spec.kind == "naive":
            prices, last, usable = self._naive(bars[spec.target], at, wanted, skip_unusable)
            return np.log(prices / last[:, None, None]), last, usable
        assert spec.features is not None
        features = built.get(spec.features)
        if features is None:
            features = built[spec.features] = build(bars, spec.features, at)
        if not skip_unusable and not features.usable.all():
            first = int(at[~features.usable][0])
            raise DataError(why_unusable(bars[spec.target], spec.features, first))
        if spec.base is not None:
            z = np.broadcast_to(np.asarray(spec.base), (len(at), len(spec.horizons), len(spec.levels)))[
                :, chosen
            ]
        else:
            z = self.run_network(features.x)[:, chosen]
        ahead = season(spec.features.seasonal, at, wanted)
        scale = spec.features.volatility.scale(features.log_volatility, ahead, wanted)
        return self.adjust(z, wanted) * scale[:, :, None], features.last_close, features.usable

    def run_network(self, x: np.ndarray[Any, np.dtype[np.float32]]) -> FloatArray:
        """The network's raw z (N, horizons, levels) for features x (N, window, width)."""
        parts = [self._session.run(["z"], {"x": x[i : i + _BATCH]})[0] for i in range(0, len(x), _BATCH)]
        z: FloatArray = np.concatenate(parts).astype(np.float64)
        return z

    def adjust(self, z: FloatArray, horizons: Sequence[int] | None = None) -> FloatArray:
        """Apply shrinkage and calibration to z or returns (N, h, Q), and keep quantiles from crossing."""
        spec = self.spec
        centre = spec.levels.index(0.5)
        median = z[:, :, centre : centre + 1]
        spread = z - median
        if spec.calibration is not None:
            chosen = [spec.horizons.index(h) for h in (spec.horizons if horizons is None else horizons)]
            spread = spread * np.asarray(spec.calibration)[chosen]
        return np.sort(median * spec.median_shrink + spread, axis=2)


def save(directory: Path, forecaster: Forecaster) -> None:
    """Write a forecaster's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _SPEC).write_text(forecaster.spec.model_dump_json(indent=1))
    if forecaster._network is not None:
        (directory / _NETWORK).write_bytes(forecaster._network)
    for member in forecaster.members:
        save(directory / _MEMBERS / member.spec.kind, member)


def load(directory: Path) -> Forecaster:
    """Load a forecaster's directory.

    Raises:
        DataError: when a file is missing, is not what it should be, or the parts do not fit each other; what is wrong
            with a member begins with its folder.
        ConfigurationError: when a later release wrote it, in a form that this one does not know.
    """
    try:
        written = (directory / _SPEC).read_bytes()
        spec = ForecasterSpec.model_validate_json(written)
    except FileNotFoundError:
        raise DataError("spec.json is missing; this is no forecaster") from None
    except ValidationError as error:
        schema = _schema_of(written)
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigurationError(
                f"spec.json has schema {schema}, and this Hourcast ({__version__}) reads schema {SCHEMA}; upgrade Hourcast"
            ) from None
        if schema not in (None, SCHEMA):
            raise DataError(
                f"spec.json has schema {schema}, and this Hourcast reads schema {SCHEMA}; train again with `hourcast train`"
            ) from None
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "spec"
        raise DataError(f"spec.json is not valid: {where}: {problem['msg']}") from None
    network = directory / _NETWORK
    members = []
    for member in spec.members:
        try:
            members.append(load(directory / _MEMBERS / member.kind))
        except DataError as error:
            raise DataError(f"{_MEMBERS}/{member.kind}: {error}") from None
    return Forecaster(spec, network.read_bytes() if network.exists() else None, members)


def _schema_of(written: bytes) -> object:
    try:
        return json.loads(written).get("schema_version")
    except (ValueError, AttributeError):
        return None


def make_golden(forecaster: Forecaster, bars: Mapping[str, Bars], origin_s: int) -> Golden:
    """An input (only the bars that the forecast needs) and the output that `forecaster` gives for it."""
    start = origin_s - (forecaster.history_h + 2) * HOUR_S
    needed: dict[str, Bars] = {}
    for symbol in forecaster.symbols:
        known = bars.get(symbol, Bars.empty(symbol)).known_at(origin_s)
        early = start if symbol == forecaster.spec.target else start - 7 * 24 * HOUR_S
        # With the bar that was the newest then: a forecast carries it over a hole.
        first = int(np.searchsorted(known.close_time, early, side="right")) - 1
        needed[symbol] = known.take(slice(max(first, 0), None))
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
