"""A loaded forecaster: from bars to quantiles, on numpy and onnxruntime alone."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hourcast.conformal import shifted
from hourcast.contracts import Bars, FloatArray, IntArray, from_epoch
from hourcast.errors import DataError
from hourcast.features import Features, FeatureSpec, build, fingerprint, why_unusable
from hourcast.forecaster._forecasts import Forecasts, refuse_unknown
from hourcast.forecaster._naive import floor_fingerprint, naive_quantiles
from hourcast.forecaster._spec import ForecasterSpec
from hourcast.volatility import season

__all__ = ["Forecaster", "Looked"]

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Looked:
    """What a forecaster looks at from N origins: features by specification, in order, and `fingerprints` (N,)."""

    tables: Mapping[FeatureSpec, Features]
    fingerprints: tuple[str, ...]


def _opened(network: bytes, spec: ForecasterSpec) -> Any:
    """A session of the network, whose input and output are those of `spec`."""
    assert spec.features is not None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a class for each of its many reasons
        raise DataError(f"network.onnx cannot be loaded: {str(error).splitlines()[0][:200]}") from None
    given = [(i.name, list(i.shape)[1:]) for i in session.get_inputs()]
    made = [(o.name, list(o.shape)[1:]) for o in session.get_outputs()]
    wanted = [("x", [spec.features.window, spec.features.width])]
    promised = [("z", [len(spec.horizons), len(spec.levels)])]
    if given != wanted or made != promised:
        raise DataError(f"network.onnx maps {given} to {made}, but spec.json asks for {wanted} to {promised}")
    return session


class Forecaster:
    """A loaded forecaster. `predict` may be called from several threads at once.

    `network` holds the bytes of `network.onnx`, where the kind has one.
    """

    def __init__(
        self, spec: ForecasterSpec, network: bytes | None = None, members: Sequence["Forecaster"] = ()
    ) -> None:
        self.spec = spec
        self.members = tuple(members)
        self.network = network
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
        self._session = _opened(network, spec)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over spec, network and members, 16 hex digits."""
        digest = hashlib.sha256(self.spec.model_dump_json().encode())
        digest.update(self.network or b"")
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
        refuse_unknown(wanted, spec.horizons)
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
        tables += [floor_fingerprint(target, at, s.naive_window_h + max(s.horizons)) for s in floors]
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
