"""Gradient boosting of how much wider or narrower the coming hours are than the volatility makes expect.

LightGBM (Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017) fits the mean of
|z| with the gamma distribution's likelihood and logarithmic link, for some horizons; between them the logarithm is
interpolated over the logarithm of the horizon. The shape is empirical, from multipliers that were fitted without the
hours that they stand for. Trees, interpolation and shape are one ONNX graph.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hourcast.contracts import FloatArray, from_epoch
from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS, ForecasterSpec
from hourcast_trainer.models._interface import FitRequest, Fitted, Hyper, Model, describe
from hourcast_trainer.models._onnx import onnx_bytes
from hourcast_trainer.models._parity import check_parity
from hourcast_trainer.models._samples import ANCHORS, between, samples_of, window_history_h
from hourcast_trainer.models.volatility import centred_quantiles
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import lightgbm

__all__ = ["BoostingModel"]

_LEAST = 1e-3


class BoostingModel(Model):
    """Fits a small forest a horizon, on one thread: the same data give the same trees."""

    kind = "boosting"

    def history_h(self, settings: TrainerSettings) -> int:
        """Five weeks of samples beside the features' own history."""
        return window_history_h(settings.lstm_window_h)

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """How far trees may go."""
        rounds = settings.boosting_rounds
        return (
            {"leaves": 7, "rounds": rounds},
            {"leaves": 4, "rounds": 2 * rounds // 3},
            {"leaves": 15, "rounds": 4 * rounds // 3},
        )

    def fit(self, request: FitRequest) -> Fitted:
        """Fit the forests, then the shape; export and check parity.

        Raises:
            DataError: when there are too few samples, or the export gives other numbers.
        """
        settings = request.settings
        features, samples = samples_of(request, settings.model_series, settings.lstm_window_h)
        n = len(samples.origin)
        hyper = dict(self.candidates(settings)[0]) | dict(request.hyper)
        last = samples.x[:, -1, :]
        size = np.abs(samples.z.astype(np.float64)) + _LEAST
        forests = _fit(last, size, hyper, settings.seed)
        # A forest knows the hours that it learned from too well to say how returns spread around it.
        honest = np.empty((n, len(ANCHORS)))
        gap, half = max(HORIZONS), n // 2
        for learn, judge in ((slice(half + gap, n), slice(0, half)), (slice(0, half - gap), slice(half, n))):
            honest[judge] = _raw(_fit(last[learn], size[learn], hyper, settings.seed), last[judge])
        base = centred_quantiles((samples.z / np.exp(honest @ between())).astype(np.float32))
        exported = _export(forests, base, features)
        spec = ForecasterSpec(
            kind="boosting",
            features=features,
            median_shrink=1.0,
            **describe(request, from_epoch(samples.origin[0]), from_epoch(samples.origin[-1]), n),
        )
        part = samples.x[:: max(1, n // 256)]
        check_parity(
            spec, exported, part, np.exp(_raw(forests, part[:, -1, :]) @ between())[:, :, None] * base
        )
        return Fitted(spec, exported, params={**hyper, "samples": n, "window_h": settings.lstm_window_h})


def _fit(x: npt.NDArray[np.float32], size: FloatArray, hyper: Hyper, seed: int) -> "list[lightgbm.Booster]":
    import lightgbm

    params = {
        "objective": "gamma",
        "num_leaves": int(hyper["leaves"]),
        "learning_rate": 0.03,
        "min_data_in_leaf": max(20, min(200, len(x) // 20)),
        "feature_fraction": 0.7,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return [
        lightgbm.train(
            params, lightgbm.Dataset(x, size[:, HORIZONS.index(h)], free_raw_data=False), int(hyper["rounds"])
        )
        for h in ANCHORS
    ]


def _raw(forests: "list[lightgbm.Booster]", x: npt.NDArray[np.float32]) -> FloatArray:
    """(N, anchors): the logarithm of the multiplier."""
    return np.stack(
        [np.asarray(f.predict(x, raw_score=True, num_threads=1), np.float64) for f in forests], axis=1
    )


def _nodes(tree: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any], int, int]]:
    """(number, node, number of its left child, of its right) of a dumped tree, the root first."""
    waiting, made = [(0, tree)], 1
    while waiting:
        number, node = waiting.pop()
        if "leaf_value" in node and "split_feature" not in node:
            yield number, node, 0, 0
            continue
        left, right = made, made + 1
        made += 2
        yield number, node, left, right
        waiting += [(left, node["left_child"]), (right, node["right_child"])]


def _forest(forests: "list[lightgbm.Booster]") -> dict[str, list[Any]]:
    """Attributes of ONNX's TreeEnsembleRegressor, one target a forest."""
    out: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids",
            "nodes_falsenodeids", "nodes_hitrates", "target_treeids", "target_nodeids", "target_ids", "target_weights",
        )
    }  # fmt: skip
    count = 0
    for target, forest in enumerate(forests):
        for info in forest.dump_model()["tree_info"]:
            for number, node, left, right in _nodes(info["tree_structure"]):
                leaf = "split_feature" not in node
                out["nodes_treeids"].append(count)
                out["nodes_nodeids"].append(number)
                out["nodes_featureids"].append(0 if leaf else node["split_feature"])
                out["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
                out["nodes_values"].append(0.0 if leaf else _single(node["threshold"]))
                out["nodes_truenodeids"].append(left)
                out["nodes_falsenodeids"].append(right)
                out["nodes_hitrates"].append(1.0)
                if leaf:
                    out["target_treeids"].append(count)
                    out["target_nodeids"].append(number)
                    out["target_ids"].append(target)
                    out["target_weights"].append(float(node["leaf_value"]))
            count += 1
    return out


def _single(threshold: float) -> float:
    """The largest single-precision number that is not above `threshold`, so that `<=` parts the same inputs."""
    near = np.float32(threshold)
    return float(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))


def _export(forests: "list[lightgbm.Booster]", base: FloatArray, features: FeatureSpec) -> bytes:
    from onnx import helper

    constants: dict[str, npt.NDArray[Any]] = {
        "now": np.array(features.window - 1, np.int64),
        "between": between().astype(np.float32),
        "base": base.astype(np.float32)[None],
        "last": np.array([2], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["x", "now"], ["row"], axis=1),
        node(
            "TreeEnsembleRegressor", ["row"], ["raw"], domain="ai.onnx.ml", n_targets=len(forests),
            post_transform="NONE", **_forest(forests),
        ),
        node("MatMul", ["raw", "between"], ["level"]),
        node("Exp", ["level"], ["wider"]),
        node("Unsqueeze", ["wider", "last"], ["column"]),
        node("Mul", ["column", "base"], ["z"]),
    ]  # fmt: skip
    return onnx_bytes("boosting", features, nodes, constants, ("", "ai.onnx.ml"))
