"""What a network is made of before its head, in torch and in ONNX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hourcast.features import FeatureSpec
from hourcast.forecaster import Kind

if TYPE_CHECKING:
    import torch

__all__ = ["Body", "Graph", "Singles"]

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Graph:
    """Part of an ONNX graph: nodes from `scaled` (n, window, width) to `state` (n, size), and their constants."""

    nodes: Sequence[Any]
    constants: Mapping[str, npt.NDArray[Any]]


class Body(Protocol):
    """What turns features into a state, in torch and in ONNX."""

    @property
    def kind(self) -> Kind:
        """The kind of model."""
        ...

    def size(self, features: FeatureSpec) -> int:
        """Length of the state."""
        ...

    def module(self, features: FeatureSpec) -> "torch.nn.Module":
        """Standardised features (N, window, width) to states (N, size)."""
        ...

    def graph(self, weights: Mapping[str, Singles]) -> Graph:
        """The same in ONNX, with the module's weights by their names."""
        ...
