"""A small causal Transformer: Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

Layers normalise before they attend (Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020),
positions are learned, and an hour sees itself and the hours before it. The state is that of the last hour, so the last
layer asks for that hour alone. What the head forecasts, and how it is fitted and judged, is told in `_network`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hourcast.features import FeatureSpec
from hourcast.forecaster import Kind
from hourcast_trainer.models._interface import FitRequest, Fitted, Hyper, Model
from hourcast_trainer.models._network import Descent, Graph, Singles, fit_network
from hourcast_trainer.models._samples import window_history_h
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import torch

__all__ = ["TransformerBody", "TransformerModel"]

_HEADS = 2
_WIDER = 2
_EPSILON = 1e-5
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class TransformerBody:
    """`layers` of attention with two heads and a feed-forward part, over states of `width` numbers an hour."""

    width: int
    layers: int
    kind: Kind = "transformer"

    def size(self, features: FeatureSpec) -> int:
        """Length of the state."""
        return self.width

    def module(self, features: FeatureSpec) -> "torch.nn.Module":
        """The layers in torch. `hidden(scaled)` (N, window, width) are the states of every hour, for the look inside."""
        import torch

        size, layers, window = self.width, self.layers, features.window

        class Layer(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.before = torch.nn.LayerNorm(size, _EPSILON)
                self.ask = torch.nn.Linear(size, size)
                self.keys = torch.nn.Linear(size, size)
                self.values = torch.nn.Linear(size, size)
                self.join = torch.nn.Linear(size, size)
                self.between = torch.nn.LayerNorm(size, _EPSILON)
                self.widen = torch.nn.Linear(size, _WIDER * size)
                self.narrow = torch.nn.Linear(_WIDER * size, size)

            def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
                """The states of the last hours, as many as the mask has rows."""
                asking = len(mask)
                calm = self.before(states)
                heads = (len(states), -1, _HEADS, size // _HEADS)
                q = self.ask(calm[:, -asking:]).reshape(heads).transpose(1, 2)
                k = self.keys(calm).reshape(heads).permute(0, 2, 3, 1)
                v = self.values(calm).reshape(heads).transpose(1, 2)
                look = torch.softmax(q @ k * (size // _HEADS) ** -0.5 + mask, -1)
                seen = (look @ v).transpose(1, 2).reshape(-1, asking, size)
                states = states[:, -asking:] + self.join(seen)
                out: torch.Tensor = states + self.narrow(torch.relu(self.widen(self.between(states))))
                return out

        class Body(torch.nn.Module):
            mask: torch.Tensor

            def __init__(self) -> None:
                super().__init__()
                self.enter = torch.nn.Linear(features.width, size)
                self.position = torch.nn.Parameter(0.02 * torch.randn(window, size))
                self.layers = torch.nn.ModuleList(Layer() for _ in range(layers))
                self.leave = torch.nn.LayerNorm(size, _EPSILON)
                self.register_buffer("mask", torch.from_numpy(_mask(window)))

            def hidden(self, scaled: torch.Tensor) -> torch.Tensor:
                states = self.enter(scaled) + self.position
                for layer in self.layers:
                    states = layer(states, self.mask)
                left: torch.Tensor = self.leave(states)
                return left

            def forward(self, scaled: torch.Tensor) -> torch.Tensor:
                states = self.enter(scaled) + self.position
                for number, layer in enumerate(self.layers, 1):
                    states = layer(states, self.mask[-1:] if number == layers else self.mask)
                last: torch.Tensor = self.leave(states[:, -1])
                return last

        return Body()

    def graph(self, weights: Mapping[str, Singles]) -> Graph:
        """The same in ONNX's operators."""
        from onnx import helper

        window = len(weights["position"])
        constants: dict[str, npt.NDArray[Any]] = {
            "position": weights["position"],
            "mask": weights["mask"],
            "mask_last": weights["mask"][-1:],
            "heads": np.array([0, -1, _HEADS, self.width // _HEADS], np.int64),
            "joined": np.array([0, -1, self.width], np.int64),
            "root": np.array((self.width // _HEADS) ** -0.5, np.float32),
            "from": np.array([window - 1], np.int64),
            "to": np.array([window], np.int64),
            "hours": np.array([1], np.int64),
        }
        nodes: list[Any] = []

        def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(operator, inputs, [output], **attributes))
            return output

        def linear(name: str, source: str) -> str:
            constants[f"{name}.w"] = np.ascontiguousarray(weights[f"{name}.weight"].T)
            constants[f"{name}.b"] = weights[f"{name}.bias"]
            product = add("MatMul", [source, f"{name}.w"], f"{name}.product")
            return add("Add", [product, f"{name}.b"], f"{name}.out")

        def normal(name: str, source: str) -> str:
            constants[f"{name}.w"], constants[f"{name}.b"] = (
                weights[f"{name}.weight"],
                weights[f"{name}.bias"],
            )
            inputs = [source, f"{name}.w", f"{name}.b"]
            return add("LayerNormalization", inputs, f"{name}.out", axis=-1, epsilon=_EPSILON)

        def heads(source: str, perm: list[int]) -> str:
            apart = add("Reshape", [source, "heads"], f"{source}.apart")
            return add("Transpose", [apart], f"{source}.heads", perm=perm)

        states = add("Add", [linear("enter", "scaled"), "position"], "entered")
        for number in range(self.layers):
            at, last = f"layers.{number}", number == self.layers - 1
            calm = normal(f"{at}.before", states)
            asking = calm
            if last:
                asking = add("Slice", [calm, "from", "to", "hours"], f"{at}.asking")
                states = add("Slice", [states, "from", "to", "hours"], f"{at}.states")
            q = heads(linear(f"{at}.ask", asking), [0, 2, 1, 3])
            k = heads(linear(f"{at}.keys", calm), [0, 2, 3, 1])
            v = heads(linear(f"{at}.values", calm), [0, 2, 1, 3])
            like = add("Mul", [add("MatMul", [q, k], f"{at}.product"), "root"], f"{at}.like")
            masked = add("Add", [like, "mask_last" if last else "mask"], f"{at}.masked")
            look = add("Softmax", [masked], f"{at}.look", axis=-1)
            seen = add(
                "Transpose", [add("MatMul", [look, v], f"{at}.seen")], f"{at}.turned", perm=[0, 2, 1, 3]
            )
            joined = linear(f"{at}.join", add("Reshape", [seen, "joined"], f"{at}.joined"))
            states = add("Add", [states, joined], f"{at}.attended")
            wide = add("Relu", [linear(f"{at}.widen", normal(f"{at}.between", states))], f"{at}.wide")
            states = add("Add", [states, linear(f"{at}.narrow", wide)], f"{at}.out")
        add("Squeeze", [normal("leave", states), "hours"], "state")
        return Graph(nodes, constants)


def _mask(window: int) -> Singles:
    """(window, window): what keeps an hour (row) from seeing the hours after it (columns)."""
    out: Singles = np.triu(np.full((window, window), _NEVER, np.float32), 1)
    return out


class TransformerModel(Model):
    """Fits the network on the CPU, or on CUDA where torch finds it; exports ONNX and checks parity."""

    kind = "transformer"

    def history_h(self, settings: TrainerSettings) -> int:
        """Five weeks of samples beside the features' own history."""
        return window_history_h(settings.transformer_window_h)

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """How fast to learn, and how deep."""
        layers = settings.transformer_layers
        return (
            {"layers": layers, "learning_rate": 0.001},
            {"layers": layers, "learning_rate": 0.003},
            {"layers": layers + 1, "learning_rate": 0.001},
        )

    def fit(self, request: FitRequest) -> Fitted:
        """Fit, calibrate on hours that were not learned, export.

        Raises:
            ConfigurationError: when the device that is asked for is not there.
            DataError: when there are too few samples, or ONNX and torch disagree.
        """
        settings = request.settings
        hyper = {**self.candidates(settings)[0], **request.hyper}
        width, layers = settings.transformer_width, int(hyper["layers"])
        descent = Descent(settings.transformer_epochs, float(hyper["learning_rate"]))
        told = {"width": width, "layers": layers}
        return fit_network(
            request, TransformerBody(width, layers), settings.transformer_window_h, descent, told
        )
