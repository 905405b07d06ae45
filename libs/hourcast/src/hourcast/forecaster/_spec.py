"""What a forecaster is, but for the weights of its network: the form of `spec.json`."""

from datetime import date
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from hourcast.conformal import ConformalState
from hourcast.features import FeatureSpec

__all__ = [
    "HORIZONS",
    "LEVELS",
    "NAIVE_WINDOW_H",
    "SCHEMA",
    "ForecasterSpec",
    "Kind",
    "Member",
    "TrainingSpan",
]

LEVELS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))
HORIZONS: tuple[int, ...] = tuple(range(1, 25))
NAIVE_WINDOW_H = 720
SCHEMA = 2
Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""A kind of model. It is a name alone, and a folder's: what a specification holds says how it forecasts."""

_WITHOUT_Z = ("ensemble", "naive")


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
