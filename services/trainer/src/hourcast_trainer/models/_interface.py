"""What a kind of model takes and gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hourcast.contracts import Bars
from hourcast.forecaster import Forecaster, ForecasterSpec
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.settings import TrainerSettings

__all__ = ["EpochLosses", "FitRequest", "Fitted", "Model"]


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """Mean pinball loss of scaled returns after one epoch."""

    epoch: int
    training: float
    validation: float


@dataclass(frozen=True, slots=True)
class FitRequest:
    """Bars (later ones than `plan.train_end` are ignored), spans, settings and whom to tell about each epoch."""

    bars: Mapping[str, Bars]
    plan: TrainingPlan
    settings: TrainerSettings
    on_epoch: Callable[[EpochLosses], None] = field(default=lambda _losses: None)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model: its specification, its network as ONNX bytes (None: naive) and how the fit went."""

    spec: ForecasterSpec
    network: bytes | None
    epochs: tuple[EpochLosses, ...] = ()
    params: Mapping[str, float | int | str] = field(default_factory=dict)

    def forecaster(self) -> Forecaster:
        """The forecaster as serving will load it."""
        return Forecaster(self.spec, self.network)


class Model(Protocol):
    """A kind of model."""

    kind: str

    def history_h(self, settings: TrainerSettings) -> int:
        """Hours of target bars before `plan.train_end` that a fit needs at least."""
        ...

    def fit(self, request: FitRequest) -> Fitted:
        """Fit on what had closed by `plan.train_end`; the same request gives the same model."""
        ...
