"""What a kind of model takes and gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol, TypedDict

from hourcast import __version__
from hourcast.contracts import Bars, FloatArray, IntArray
from hourcast.forecaster import Forecaster, ForecasterSpec, Forecasts, TrainingSpan
from hourcast_trainer.calendar import TrainingPlan
from hourcast_trainer.datasets import data_fingerprint
from hourcast_trainer.settings import TrainerSettings

__all__ = [
    "Compared",
    "ComparedFit",
    "EpochLosses",
    "FitRequest",
    "Fitted",
    "Forecasting",
    "Hyper",
    "Lineage",
    "Model",
    "Origin",
    "describe",
]

Hyper = Mapping[str, float | int | str]


class Lineage(TypedDict):
    """The fields of a specification that say where it comes from."""

    target: str
    training: TrainingSpan
    trained_through: date
    decided_at: datetime
    data_fingerprint: str
    code_version: str
    seed: int
    synthetic: bool


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """Mean pinball loss of scaled returns after one epoch."""

    epoch: int
    training: float
    validation: float


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What a fit may know and how it should go.

    Bars later than `plan.train_end` are ignored, and what came or was revised after `plan.decided_at`. `hyper` are hyperparameters that were chosen, by the names that the
    model's `candidates` give; what is missing has its default. `ready` are other kinds that were fitted on this very
    request already. `on_epoch` is told about each epoch.
    """

    bars: Mapping[str, Bars]
    plan: TrainingPlan
    settings: TrainerSettings
    hyper: Hyper = field(default_factory=dict)
    ready: Mapping[str, "Fitted"] = field(default_factory=dict)
    on_epoch: Callable[[EpochLosses], None] = field(default=lambda _losses: None)

    @property
    def known(self) -> dict[str, Bars]:
        """The bars that had closed by the end of the training span, as they were known when the training was made."""
        return {symbol: self.plan.known(part) for symbol, part in self.bars.items()}


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted model: its specification, its network as ONNX bytes, an ensemble's members, and how the fit went."""

    spec: ForecasterSpec
    network: bytes | None = None
    members: tuple["Fitted", ...] = ()
    epochs: tuple[EpochLosses, ...] = ()
    params: Mapping[str, float | int | str] = field(default_factory=dict)

    def forecaster(self) -> Forecaster:
        """The forecaster as serving will load it."""
        return Forecaster(self.spec, self.network, [member.forecaster() for member in self.members])


class Forecasting(Protocol):
    """What a fit forecasts with: a `Forecaster`, or what is compared with one."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all that decides its forecasts."""
        ...

    def predict(
        self,
        bars: Mapping[str, Bars],
        origins: IntArray | None = None,
        horizons: Sequence[int] | None = None,
        *,
        skip_unusable: bool = False,
        shift: FloatArray | None = None,
    ) -> Forecasts:
        """Forecast from each origin, as `Forecaster.predict` does."""
        ...


class Origin(Protocol):
    """Where a fit comes from, as a specification says it."""

    @property
    def training(self) -> TrainingSpan:
        """Its training samples."""
        ...

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of the bars that it learned from."""
        ...

    @property
    def code_version(self) -> str:
        """Version of Hourcast."""
        ...

    @property
    def seed(self) -> int:
        """Seed of its random choices."""
        ...


class ComparedFit(Protocol):
    """A fit that can be compared; a `Fitted` can be served, too."""

    @property
    def spec(self) -> Origin:
        """Where it comes from."""
        ...

    @property
    def params(self) -> Mapping[str, float | int | str]:
        """What it was fitted with."""
        ...

    def forecaster(self) -> Forecasting:
        """What forecasts."""
        ...


class Compared(ABC):
    """A kind of model that can be compared, whether or not it can be served."""

    kind: str

    @abstractmethod
    def history_h(self, settings: TrainerSettings) -> int:
        """Hours of target bars before `plan.train_end` that a fit needs at least."""

    def candidates(self, settings: TrainerSettings) -> Sequence[Hyper]:
        """Hyperparameters to choose from, the default first; a single one leaves nothing to choose."""
        return ({},)

    def members(self, settings: TrainerSettings) -> tuple[str, ...]:
        """Kinds that it is made of. Their hyperparameters come to its fit as `<kind>.<name>`."""
        return ()

    @abstractmethod
    def fit(self, request: FitRequest) -> ComparedFit:
        """Fit on what had closed by `plan.train_end`; the same request gives the same model."""


class Model(Compared):
    """A kind of model that can be served, too: its fit is a forecaster."""

    @abstractmethod
    def fit(self, request: FitRequest) -> Fitted:
        """Fit on what had closed by `plan.train_end`; the same request gives the same model."""


def describe(request: FitRequest, start: datetime, end: datetime, rows: int) -> Lineage:
    """What every specification says of its own making; `start`, `end` and `rows` are of its training samples."""
    plan, settings = request.plan, request.settings
    return Lineage(
        target=settings.target.symbol,
        training=TrainingSpan(start=start, end=end, rows=rows),
        trained_through=plan.trained_through,
        decided_at=plan.decided_at,
        data_fingerprint=data_fingerprint(request.known, plan.start_s, plan.train_end_s),
        code_version=__version__,
        seed=settings.seed,
        synthetic=settings.synthetic,
    )
