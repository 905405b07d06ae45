"""An LSTM over the last hours: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9 (1997).

The head sees the LSTM's state and, past it, the last hour's own features: volatilities over days and weeks are in them
already, and the LSTM need not learn to carry them through.
What its head forecasts, and how it is fitted and judged, is told in `_network`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hourcast.features import FeatureSpec
from hourcast.forecaster import Kind
from hourcast_trainer.models._body import Graph, Singles
from hourcast_trainer.models._interface import FitRequest, Fitted, Hyper, Model
from hourcast_trainer.models._network import Descent, fit_network
from hourcast_trainer.models._samples import window_history_h
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    import torch

__all__ = ["LstmBody", "LstmModel"]

_FAR = 5.0


@dataclass(frozen=True, slots=True)
class LstmBody:
    """One layer of `hidden` cells; the state is theirs after the last hour, and that hour's features."""

    hidden: int
    kind: Kind = "lstm"

    def size(self, features: FeatureSpec) -> int:
        """Length of the state."""
        return self.hidden + features.width

    def module(self, features: FeatureSpec) -> "torch.nn.Module":
        """The layer in torch."""
        import torch

        hidden = self.hidden

        class Body(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.lstm = torch.nn.LSTM(features.width, hidden, batch_first=True)

            def forward(self, scaled: torch.Tensor) -> torch.Tensor:
                steps, _ = self.lstm(scaled)
                return torch.cat([steps[:, -1], scaled[:, -1].clamp(-_FAR, _FAR)], 1)

        return Body()

    def graph(self, weights: Mapping[str, Singles]) -> Graph:
        """ONNX has the very operator; its gates are ordered input, output, forget, cell, torch's input, forget, cell, output."""
        from onnx import helper

        def gates(value: Singles) -> Singles:
            i, f, c, o = np.split(value, 4)
            return np.concatenate([i, o, f, c])

        constants: dict[str, npt.NDArray[Any]] = {
            "w": gates(weights["lstm.weight_ih_l0"])[None],
            "r": gates(weights["lstm.weight_hh_l0"])[None],
            "b": np.concatenate([gates(weights[f"lstm.bias_{part}_l0"]) for part in ("ih", "hh")])[None],
            "first": np.array([0], np.int64),
            "nearest": np.array(-1, np.int64),
            "low": np.array(-_FAR, np.float32),
            "high": np.array(_FAR, np.float32),
        }
        nodes = [
            helper.make_node("Transpose", ["scaled"], ["steps"], perm=[1, 0, 2]),
            helper.make_node("LSTM", ["steps", "w", "r", "b"], ["", "after_last"], hidden_size=self.hidden),
            helper.make_node("Squeeze", ["after_last", "first"], ["carried"]),
            helper.make_node("Gather", ["scaled", "nearest"], ["now"], axis=1),
            helper.make_node("Clip", ["now", "low", "high"], ["near"]),
            helper.make_node("Concat", ["carried", "near"], ["state"], axis=1),
        ]
        return Graph(nodes, constants)


class LstmModel(Model):
    """Fits the network on the CPU, or on CUDA where torch finds it; exports ONNX and checks parity."""

    kind = "lstm"

    def history_h(self, settings: TrainerSettings) -> int:
        """Five weeks of samples beside the features' own history."""
        return window_history_h(settings.lstm_window_h)

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """How large, and how fast to learn."""
        hidden = settings.lstm_hidden
        return (
            {"hidden": hidden, "learning_rate": 0.003},
            {"hidden": hidden, "learning_rate": 0.01},
            {"hidden": 2 * hidden, "learning_rate": 0.003},
        )

    def fit(self, request: FitRequest) -> Fitted:
        """Fit, calibrate on hours that were not learned, export.

        Raises:
            ConfigurationError: when the device that is asked for is not there.
            DataError: when there are too few samples, or ONNX and torch disagree.
        """
        settings = request.settings
        hyper = {**self.candidates(settings)[0], **request.hyper}
        hidden = int(hyper["hidden"])
        descent = Descent(settings.lstm_epochs, float(hyper["learning_rate"]))
        return fit_network(request, LstmBody(hidden), settings.lstm_window_h, descent, {"hidden": hidden})
