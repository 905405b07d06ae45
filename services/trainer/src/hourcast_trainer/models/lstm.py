"""An LSTM on scaled log-returns with a quantile head.

The head starts at the empirical quantiles of the training targets and learns, for each horizon, how much wider
or narrower the upper and the lower side should be now, and a shift. Quantiles of such a head cannot cross.
Loss: pinball (Koenker and Bassett 1978). Network: Hochreiter and Schmidhuber, "Long Short-Term Memory",
Neural Computation 9 (1997).
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hourcast import __version__
from hourcast.contracts import FloatArray, from_epoch
from hourcast.errors import DataError
from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS, LEVELS, Forecaster, ForecasterSpec, TrainingSpan
from hourcast_trainer.datasets import data_fingerprint, fit_features, make_samples
from hourcast_trainer.models._interface import EpochLosses, FitRequest, Fitted
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import torch

__all__ = ["LstmModel"]

_BATCH = 256
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-3
_PATIENCE = 2
_VALIDATION_SHARE = 0.15
_WIDEST = 1.5
_PARITY = 1e-4
_MIN_SAMPLES = 500
_CALIBRATION_PRIOR = 500.0
_NO_GAIN = 0.998


@dataclass(frozen=True, slots=True)
class _Base:
    """The head's start: quantiles (H, Q) of z, centred, split into the side below and above the median."""

    below: npt.NDArray[np.float32]
    above: npt.NDArray[np.float32]

    @classmethod
    def of(cls, z: npt.NDArray[np.float32]) -> "_Base":
        quantiles = np.quantile(z, LEVELS, axis=0).T
        centred = quantiles - quantiles[:, [LEVELS.index(0.5)]]
        return cls(np.minimum(centred, 0).astype(np.float32), np.maximum(centred, 0).astype(np.float32))


def _network(width: int, hidden: int, base: _Base, mean: Any, spread: Any) -> "torch.nn.Module":
    import torch

    class Network(torch.nn.Module):
        mean: torch.Tensor
        spread: torch.Tensor
        below: torch.Tensor
        above: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("spread", torch.from_numpy(spread))
            self.register_buffer("below", torch.from_numpy(base.below))
            self.register_buffer("above", torch.from_numpy(base.above))
            self.lstm = torch.nn.LSTM(width, hidden, batch_first=True)
            self.head = torch.nn.Linear(hidden, 3 * len(HORIZONS))
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steps, _ = self.lstm((x - self.mean) / self.spread)
            out = self.head(steps[:, -1]).reshape(-1, 3, len(HORIZONS), 1)
            wider = torch.exp(_WIDEST * torch.tanh(out[:, :2]))
            z: torch.Tensor = out[:, 2] + wider[:, 0] * self.below + wider[:, 1] * self.above
            return z

    return Network()


class LstmModel:
    """Fits the network on the CPU, or on CUDA where torch finds it; exports ONNX and checks parity."""

    kind = "lstm"

    def history_h(self, settings: TrainerSettings) -> int:
        """Five weeks of samples beside the features' own history."""
        return 35 * 24 + 336 + settings.lstm_window_h + 1 + max(HORIZONS)

    def fit(self, request: FitRequest) -> Fitted:
        """Fit, calibrate on the last part of the training span, export.

        Raises:
            DataError: when there are too few samples, or ONNX and torch disagree.
        """
        import torch

        plan, settings = request.plan, request.settings
        bars = {symbol: part.known_at(plan.train_end_s) for symbol, part in request.bars.items()}
        features = fit_features(bars, settings, settings.lstm_window_h, plan.start_s, plan.train_end_s)
        samples = make_samples(bars, features, plan.start_s, plan.train_end_s)
        n = len(samples.origin)
        if n < _MIN_SAMPLES:
            raise DataError(
                f"only {n} whole hours to train on before {plan.train_end:%Y-%m-%d}, "
                f"{_MIN_SAMPLES} are needed; load more history with `hourcast etl backfill`"
            )
        # Targets overlap by the longest horizon, so a gap of that length keeps validation unseen.
        cut = int(n * (1 - _VALIDATION_SHARE))
        fit_x, fit_z = samples.x[: cut - max(HORIZONS)], samples.z[: cut - max(HORIZONS)]
        val_x, val_z = samples.x[cut:], samples.z[cut:]

        torch.manual_seed(settings.seed)
        torch.set_num_threads(settings.train_threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        mean = fit_x.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        spread = (fit_x.std(axis=(0, 1), dtype=np.float64) + 1e-3).astype(np.float32)
        network = _network(features.width, settings.lstm_hidden, _Base.of(fit_z), mean, spread).to(device)
        epochs = self._descend(network, device, (fit_x, fit_z), (val_x, val_z), request)

        network = network.cpu().eval()
        exported = _export(network, features, settings.lstm_hidden)
        spec = ForecasterSpec(
            kind="lstm",
            target=settings.target.symbol,
            features=features,
            median_shrink=1.0,
            training=TrainingSpan(
                start=from_epoch(samples.origin[0]), end=from_epoch(samples.origin[-1]), rows=n
            ),
            trained_through=plan.trained_through,
            decided_at=plan.decided_at,
            data_fingerprint=data_fingerprint(bars, plan.start_s, plan.train_end_s),
            code_version=__version__,
            seed=settings.seed,
            synthetic=settings.synthetic,
        )
        with torch.no_grad():
            z = network(torch.from_numpy(val_x)).numpy()
        self._check_parity(Forecaster(spec, exported), val_x[:64], z[:64])
        shrink = _median_shrink(z.astype(np.float64), val_z)
        calibration = _calibration(z.astype(np.float64), val_z)
        spec = spec.model_copy(
            update={
                "median_shrink": shrink,
                "calibration": tuple(tuple(row) for row in calibration.tolist()),
            }
        )
        params: dict[str, float | int | str] = {
            "hidden": settings.lstm_hidden,
            "window_h": settings.lstm_window_h,
            "epochs_max": settings.lstm_epochs,
            "learning_rate": _LEARNING_RATE,
            "weight_decay": _WEIGHT_DECAY,
            "batch": _BATCH,
            "median_shrink": shrink,
            "device": device,
            "samples": n,
        }
        return Fitted(spec, exported, tuple(epochs), params)

    def _descend(
        self,
        network: "torch.nn.Module",
        device: str,
        fit: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        validation: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        request: FitRequest,
    ) -> list[EpochLosses]:
        import torch

        x, z = (torch.from_numpy(part).to(device) for part in fit)
        val_x, val_z = (torch.from_numpy(part).to(device) for part in validation)
        levels = torch.tensor(LEVELS, device=device)

        def loss_of(made: torch.Tensor, actual: torch.Tensor) -> torch.Tensor:
            off = actual[:, :, None] - made
            return torch.maximum(levels * off, (levels - 1) * off).mean()

        def validate() -> float:
            with torch.no_grad():
                return float(loss_of(network(val_x), val_z))

        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        order = torch.Generator().manual_seed(request.settings.seed)
        # The untrained head is the calibrated base: an epoch that does not beat it is not kept.
        best, best_state, since = validate(), copy.deepcopy(network.state_dict()), 0
        epochs: list[EpochLosses] = []
        for epoch in range(1, request.settings.lstm_epochs + 1):
            total = 0.0
            shuffled = torch.randperm(len(x), generator=order).to(device)
            for part in torch.split(shuffled, _BATCH):
                loss = loss_of(network(x[part]), z[part])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach()) * len(part)
            losses = EpochLosses(epoch, total / len(x), validate())
            epochs.append(losses)
            request.on_epoch(losses)
            if losses.validation < best:
                best, best_state, since = losses.validation, copy.deepcopy(network.state_dict()), 0
            else:
                since += 1
                if since >= _PATIENCE:
                    break
        network.load_state_dict(best_state)
        return epochs

    @staticmethod
    def _check_parity(forecaster: Forecaster, x: npt.NDArray[np.float32], z: npt.NDArray[np.float32]) -> None:
        off = float(np.abs(forecaster.run_network(x) - z).max())
        if not off <= _PARITY:
            raise DataError(f"the exported network differs from torch by {off:.2e}, more than {_PARITY:.0e}")


def _median_shrink(z: FloatArray, actual: npt.NDArray[np.float32]) -> float:
    """How much of the forecast median to believe: the least-squares factor on validation, 0 without a clear gain."""
    median = z[:, :, LEVELS.index(0.5)]
    power = float((median**2).sum())
    if power == 0:
        return 0.0
    factor = min(max(float((median * actual).sum()) / power, 0.0), 1.0)
    gain = float(((actual - factor * median) ** 2).sum()) / float((actual**2).sum())
    return round(factor, 4) if gain < _NO_GAIN else 0.0


def _calibration(z: FloatArray, actual: npt.NDArray[np.float32]) -> FloatArray:
    """(H, Q) factors on each quantile's distance from the median that set its coverage right on validation.

    Leaning towards 1, since few independent days stand behind the far quantiles.
    """
    centre = LEVELS.index(0.5)
    median = z[:, :, centre : centre + 1]
    out = np.ones((len(HORIZONS), len(LEVELS)))
    weight = len(z) / (len(z) + _CALIBRATION_PRIOR)
    for i, level in enumerate(LEVELS):
        if i == centre:
            continue
        spread = z[:, :, i] - median[:, :, 0]
        ratio = (actual - median[:, :, 0]) / np.where(np.abs(spread) < 1e-9, np.nan, spread)
        wanted = level if level > 0.5 else 1 - level
        out[:, i] = np.nan_to_num(np.nanquantile(ratio, wanted, axis=0), nan=1.0)
    factors: FloatArray = 1 + weight * (np.clip(out, 0.5, 2.0) - 1)
    return factors


def _export(network: "torch.nn.Module", features: FeatureSpec, hidden: int) -> bytes:
    """The network as ONNX.

    Written node by node: torch's exporter takes seconds and unrolls or decomposes the LSTM, while ONNX has the
    very operator. Its gates are ordered input, output, forget, cell; torch's input, forget, cell, output.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    state = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    horizons = len(HORIZONS)

    def gates(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        i, f, c, o = np.split(value, 4)
        return np.concatenate([i, o, f, c])

    constants: dict[str, npt.NDArray[Any]] = {
        "mean": state["mean"],
        "spread": state["spread"],
        "below": state["below"],
        "above": state["above"],
        "w": gates(state["lstm.weight_ih_l0"])[None],
        "r": gates(state["lstm.weight_hh_l0"])[None],
        "b": np.concatenate([gates(state["lstm.bias_ih_l0"]), gates(state["lstm.bias_hh_l0"])])[None],
        "head_w": state["head.weight"],
        "head_b": state["head.bias"],
        "first": np.array([0], np.int64),
        "shape": np.array([-1, 3, horizons, 1], np.int64),
        "one": np.array([1], np.int64),
        "widest": np.array(_WIDEST, np.float32),
        "sizes": np.array([1, 1, 1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Sub", ["x", "mean"], ["centred"]),
        node("Div", ["centred", "spread"], ["scaled"]),
        node("Transpose", ["scaled"], ["steps"], perm=[1, 0, 2]),
        node("LSTM", ["steps", "w", "r", "b"], ["", "last"], hidden_size=hidden),
        node("Squeeze", ["last", "first"], ["state"]),
        node("Gemm", ["state", "head_w", "head_b"], ["out"], transB=1),
        node("Reshape", ["out", "shape"], ["parts"]),
        node("Split", ["parts", "sizes"], ["down_", "up_", "shift_"], axis=1),
        *(node("Squeeze", [f"{name}_", "one"], [name]) for name in ("down", "up", "shift")),
    ]
    for name, side in (("down", "below"), ("up", "above")):
        nodes += [
            node("Tanh", [name], [f"{name}_t"]),
            node("Mul", [f"{name}_t", "widest"], [f"{name}_w"]),
            node("Exp", [f"{name}_w"], [f"{name}_e"]),
            node("Mul", [f"{name}_e", side], [f"{name}_z"]),
        ]
    nodes += [node("Add", ["down_z", "up_z"], ["sides"]), node("Add", ["sides", "shift"], ["z"])]
    graph = helper.make_graph(
        nodes,
        "hourcast_lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features.window, features.width])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", horizons, len(LEVELS)])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="hourcast")
    model.ir_version = 10
    onnx.checker.check_model(model)
    exported: bytes = model.SerializeToString()
    return exported
