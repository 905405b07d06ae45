"""What the networks share: a quantile head, a descent that is judged on hours it did not see, and their ONNX graph.

A body (the LSTM) turns a window of features into a state. From it the head reads, at a few horizons, the
logarithm of how much wider than the volatility makes expect the coming returns are, and a tilt between the side below
and the side above the median; other horizons are interpolated over the logarithm of the horizon. The median is the
last close. The head starts at nought: an untrained network gives the empirical quantiles, which cannot cross.

Two networks are fitted first, each on one half of the span, and forecast the half that they have not seen (cross-fitting,
as in Chernozhukov et al., "Double/Debiased Machine Learning", Econometrics Journal 21, 2018). There it shows after how
many epochs to stop (0 where none is better than the start), how much of the widths to believe at each horizon, and what
shape returns have over them. One network is then fitted on the whole span.
Loss: pinball (Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978), by AdamW (Loshchilov and Hutter 2019).
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hourcast.contracts import FloatArray, from_epoch
from hourcast.errors import ConfigurationError
from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS, LEVELS, ForecasterSpec
from hourcast_trainer.datasets import Samples
from hourcast_trainer.models._body import Body, Singles
from hourcast_trainer.models._interface import EpochLosses, FitRequest, Fitted, describe
from hourcast_trainer.models._onnx import onnx_bytes
from hourcast_trainer.models._parity import check_parity
from hourcast_trainer.models._samples import ANCHORS, between, samples_of
from hourcast_trainer.models.volatility import centred_quantiles
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICE_TOLERANCE", "Descent", "device_of", "fit_network"]

DEVICE_TOLERANCE = 1e-3
"""How far log-return quantiles of fits on two devices may differ, as a share of the scale that they are counted in."""

_AT = [HORIZONS.index(h) for h in ANCHORS]
_BATCH = 512
_WARM_STEPS = 20
_LEAST_RATE = 0.02
_PATIENCE = 2
_WIDEST, _TILT = 1.5, 0.3
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Descent:
    """How far and how fast to go down: epochs at most, the rate's peak, and the pull of weight matrices towards 0."""

    epochs: int
    learning_rate: float
    weight_decay: float = 1e-2


def device_of(settings: TrainerSettings) -> str:
    """`cpu` or `cuda`, as the settings ask for and torch finds.

    Raises:
        ConfigurationError: when CUDA is asked for and is not there.
    """
    import torch

    if settings.trainer_device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if settings.trainer_device == "cuda":
        raise ConfigurationError(
            f"HOURCAST_TRAINER_DEVICE=cuda, but torch {torch.__version__} finds no CUDA device; set it to auto or cpu, or "
            "train where there is a GPU, with a CUDA build of torch (`make install ALLOW_CUDA=1`)"
        )
    return "cpu"


@contextmanager
def _exact(device: str, threads: int) -> Iterator[None]:
    """Equal arithmetic at every call, and single precision that is single precision on CUDA too."""
    import torch

    with ExitStack() as after:
        after.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        if device == "cuda":
            # cuBLAS reads it when it is first used, and deterministic algorithms insist on it.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
            after.enter_context(
                torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            )
        after.callback(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled())
        torch.use_deterministic_algorithms(True)
        yield


def fit_network(
    request: FitRequest, body: Body, window_h: int, descent: Descent, told: Mapping[str, float | int | str]
) -> Fitted:
    """Fit, judge, fit again on the whole span, export, and check that ONNX gives what torch gives.

    Args:
        request: what may be known.
        body: what stands before the head.
        window_h: hours that the body looks at.
        descent: how to go down.
        told: what the parameters say of the body.

    Raises:
        ConfigurationError: when the device that is asked for is not there.
        DataError: when there are too few samples, or ONNX and torch disagree.
    """
    settings = request.settings
    device = device_of(settings)
    features, samples = samples_of(request, settings.model_series, window_h)
    n = len(samples.origin)
    with _exact(device, settings.train_threads):
        epochs, parts = _judge(request, body, features, samples, descent, device)
        best = int(np.argmin([_loss(made, samples.z).mean() for made in parts]))
        belief = _belief(parts[best], samples.z)
        base = _shape(parts[best], belief, samples.z)
        run = _Run(body, features, samples, descent, settings.seed, device)
        for _training in run.epochs(best):
            pass
        exported = _export(body, features, run, belief, base)
        spec = ForecasterSpec(
            kind=body.kind,
            features=features,
            **describe(request, from_epoch(samples.origin[0]), from_epoch(samples.origin[-1]), n),
        )
        part = samples.x[:: max(1, n // 256)]
        check_parity(spec, exported, part, _quantiles(run.forecast(part), belief, base))
    params: dict[str, float | int | str] = {
        **told,
        "window_h": window_h,
        "epochs_max": descent.epochs,
        "epochs": best,
        "learning_rate": descent.learning_rate,
        "weight_decay": descent.weight_decay,
        "batch": _BATCH,
        "believed_1h": round(float(belief[0]), 4),
        "believed_24h": round(float(belief[-1]), 4),
        "device": device,
        "samples": n,
    }
    return Fitted(spec, exported, epochs=tuple(epochs), params=params)


class _Run:
    """One network on its way down. Shuffling and first weights come from the CPU's generator, wherever it runs."""

    def __init__(
        self, body: Body, features: FeatureSpec, samples: Samples, descent: Descent, seed: int, device: str
    ) -> None:
        import torch

        x, z = samples.x, samples.z[:, _AT]
        self.mean: Singles = x.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        self.spread: Singles = (x.std(axis=(0, 1), dtype=np.float64) + 1e-3).astype(np.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = body.module(features).to(device)
            self.head = torch.nn.Linear(body.size(features), 2 * len(ANCHORS)).to(device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self._device, self._descent = device, descent
        self._x, self._z = (
            torch.from_numpy((x - self.mean) / self.spread).to(device),
            torch.from_numpy(z).to(device),
        )
        base = torch.from_numpy(centred_quantiles(z).astype(np.float32)).to(device)
        self._below, self._above = base.clamp(max=0), base.clamp(min=0)
        self._levels = torch.tensor(LEVELS, device=device)
        self._order = torch.Generator().manual_seed(seed)

    def _parts(self, scaled: "torch.Tensor") -> "torch.Tensor":
        """(N, 2, A): log-widths below and above the median, at the anchors."""
        import torch

        level, tilt = self.head(self.body(scaled)).reshape(-1, 2, len(ANCHORS)).unbind(1)
        level, tilt = _WIDEST * torch.tanh(level / _WIDEST), _TILT * torch.tanh(tilt)
        return torch.stack([level - tilt, level + tilt], 1)

    def _loss(self, scaled: "torch.Tensor", z: "torch.Tensor") -> "torch.Tensor":
        import torch

        wider = torch.exp(self._parts(scaled))[..., None]
        off = z[:, :, None] - (wider[:, 0] * self._below + wider[:, 1] * self._above)
        return torch.maximum(self._levels * off, (self._levels - 1) * off).mean()

    def epochs(self, most: int) -> Iterator[float]:
        """Go down for `most` epochs of the descent; the mean training loss after each."""
        import torch

        weights = [*self.body.parameters(), *self.head.parameters()]
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": self._descent.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._descent.learning_rate)
        steps = math.ceil(len(self._x) / _BATCH) * self._descent.epochs
        warm = min(_WARM_STEPS, steps // 4)
        step = 0
        for _ in range(most):
            total = 0.0
            for part in torch.split(
                torch.randperm(len(self._x), generator=self._order).to(self._device), _BATCH
            ):
                down = 0.5 + 0.5 * math.cos(math.pi * step / steps)
                step += 1
                rate = self._descent.learning_rate * min(1.0, step / max(warm, 1)) * max(down, _LEAST_RATE)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = self._loss(self._x[part], self._z[part])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                total += float(loss.detach()) * len(part)
            yield total / len(self._x)

    def forecast(self, x: Singles) -> Singles:
        """What the network makes of features (N, window, width): (N, 2, A)."""
        import torch

        with torch.no_grad():
            made = [
                self._parts(torch.from_numpy((part - self.mean) / self.spread).to(self._device)).cpu().numpy()
                for part in np.array_split(x, math.ceil(len(x) / _AT_ONCE))
            ]
        out: Singles = np.concatenate(made)
        return out

    def weights(self) -> dict[str, Singles]:
        """The body's weights by name, and `head.weight` and `head.bias`."""
        found = {**self.body.state_dict(), **{f"head.{k}": v for k, v in self.head.state_dict().items()}}
        return {name: value.detach().cpu().numpy() for name, value in found.items()}


def _judge(
    request: FitRequest, body: Body, features: FeatureSpec, samples: Samples, descent: Descent, device: str
) -> tuple[list[EpochLosses], list[Singles]]:
    """Losses after each epoch, and what each half's network made of the other half (N, 2, A) after 0, 1, … epochs."""
    n = len(samples.origin)
    # Targets overlap by the longest horizon, so a gap of that length keeps the other half unseen.
    half, gap = n // 2, max(HORIZONS)
    judged = (slice(half, n), slice(0, half))
    runs = [
        _Run(body, features, samples.take(learned), descent, request.settings.seed, device)
        for learned in (slice(0, half - gap), slice(half + gap, n))
    ]
    parts = [np.zeros((n, 2, len(ANCHORS)), np.float32)]
    epochs: list[EpochLosses] = []
    best = float(_loss(parts[0], samples.z).mean())
    since = 0
    for number, training in enumerate(zip(*(run.epochs(descent.epochs) for run in runs), strict=True), 1):
        made = np.empty_like(parts[0])
        for run, part in zip(runs, judged, strict=True):
            made[part] = run.forecast(samples.x[part])
        parts.append(made)
        epochs.append(EpochLosses(number, float(np.mean(training)), float(_loss(made, samples.z).mean())))
        request.on_epoch(epochs[-1])
        since = 0 if epochs[-1].validation < best else since + 1
        best = min(best, epochs[-1].validation)
        if since >= _PATIENCE:
            break
    return epochs, parts


def _widths(parts: Singles, belief: Singles) -> Singles:
    """(N, 2, H): log-widths of every horizon, as far as they are believed."""
    return ((parts * belief) @ between().astype(np.float32)).astype(np.float32, copy=False)


def _over_width(z: Singles, widths: Singles) -> Singles:
    """Z (N, H) over the width of its side, whose logarithm is in `widths` (N, 2, H)."""
    return (z / np.exp(np.where(z < 0, widths[:, 0], widths[:, 1]))).astype(np.float32, copy=False)


def _sides(widths: Singles, base: FloatArray) -> Singles:
    """Quantiles (N, H, Q): each side of `base` (H, Q) by its own width."""
    wider = np.exp(widths)[..., None]
    below, above = (side(base, 0).astype(np.float32) for side in (np.minimum, np.maximum))
    return (wider[:, 0] * below + wider[:, 1] * above).astype(np.float32, copy=False)


def _loss(parts: Singles, z: Singles, belief: float = 1.0) -> FloatArray:
    """(A,) pinball loss over the anchors of widths that are believed that far, with the shape that goes with them."""
    actual, widths = z[:, _AT], (parts * belief).astype(np.float32, copy=False)
    off = actual[:, :, None] - _sides(widths, centred_quantiles(_over_width(actual, widths)))
    levels = np.asarray(LEVELS, np.float32)
    out: FloatArray = np.maximum(levels * off, (levels - 1) * off).mean(axis=(0, 2), dtype=np.float64)
    return out


def _belief(parts: Singles, z: Singles) -> Singles:
    """(A,) in [0, 1]: how much of the logarithm of the widths to believe, where a parabola of the loss is lowest."""
    none, half, whole = (_loss(parts, z, belief) for belief in (0.0, 0.5, 1.0))
    # Neighbouring horizons are told by nearly the same hours, so they are asked together.
    losses = np.pad(np.stack([none, half, whole]) / none, ((0, 0), (1, 1)), mode="edge")
    none, half, whole = 0.25 * losses[:, :-2] + 0.5 * losses[:, 1:-1] + 0.25 * losses[:, 2:]
    bend, slope = 2 * (none - 2 * half + whole), 4 * half - 3 * none - whole
    lowest = -slope / np.where(bend > 0, 2 * bend, 1.0)
    out: Singles = np.clip(np.where(bend > 0, lowest, whole < none), 0, 1).astype(np.float32)
    return out


def _shape(parts: Singles, belief: Singles, z: Singles) -> FloatArray:
    """(H, Q): centred quantiles of returns over the widths that were forecast for them unseen."""
    return centred_quantiles(_over_width(z, _widths(parts, belief)))


def _quantiles(parts: Singles, belief: Singles, base: FloatArray) -> Singles:
    """Z (N, H, Q) of what a network made (N, 2, A)."""
    return _sides(_widths(parts, belief), base)


def _export(body: Body, features: FeatureSpec, run: _Run, belief: Singles, base: FloatArray) -> bytes:
    """The network as ONNX, written node by node: torch's exporter takes seconds and decomposes what ONNX has whole."""
    from onnx import helper

    weights = run.weights()
    inner = body.graph(weights)
    constants: dict[str, npt.NDArray[Any]] = {
        **inner.constants,
        "mean": run.mean,
        "spread": run.spread,
        "head_w": weights["head.weight"],
        "head_b": weights["head.bias"],
        "shape": np.array([-1, 2, len(ANCHORS)], np.int64),
        "ones": np.array([1, 1], np.int64),
        "one": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "widest": np.array(_WIDEST, np.float32),
        "tilt_most": np.array(_TILT, np.float32),
        "believed": belief[:, None] * between().astype(np.float32),
        "below": np.minimum(base, 0).astype(np.float32),
        "above": np.maximum(base, 0).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Sub", ["x", "mean"], ["centred"]),
        node("Div", ["centred", "spread"], ["scaled"]),
        *inner.nodes,
        node("Gemm", ["state", "head_w", "head_b"], ["out"], transB=1),
        node("Reshape", ["out", "shape"], ["parts"]),
        node("Split", ["parts", "ones"], ["level_", "tilt_"], axis=1),
        *(node("Squeeze", [f"{name}_", "one"], [f"{name}_raw"]) for name in ("level", "tilt")),
        node("Div", ["level_raw", "widest"], ["level_part"]),
        node("Tanh", ["level_part"], ["level_t"]),
        node("Mul", ["level_t", "widest"], ["level"]),
        node("Tanh", ["tilt_raw"], ["tilt_t"]),
        node("Mul", ["tilt_t", "tilt_most"], ["tilt"]),
        node("Sub", ["level", "tilt"], ["below_level"]),
        node("Add", ["level", "tilt"], ["above_level"]),
    ]
    for side in ("below", "above"):
        nodes += [
            node("MatMul", [f"{side}_level", "believed"], [f"{side}_h"]),
            node("Exp", [f"{side}_h"], [f"{side}_wider"]),
            node("Unsqueeze", [f"{side}_wider", "last"], [f"{side}_column"]),
            node("Mul", [f"{side}_column", side], [f"{side}_z"]),
        ]
    nodes.append(node("Add", ["below_z", "above_z"], ["z"]))
    return onnx_bytes(body.kind, features, nodes, constants)
