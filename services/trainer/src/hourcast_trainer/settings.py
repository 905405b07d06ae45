"""The trainer's settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from hourcast.settings import LISTED, Series, StreamSettings

__all__ = ["TrainerSettings"]

_REMOVED = "transformer"


def _gone(kind: str) -> str | None:
    """What to tell who names a kind that there was."""
    if kind != _REMOVED:
        return None
    return (
        f"the kind of model {kind!r} is trained no more; take `lstm`, which was as good, or another; "
        "versions of it that were made go on being served"
    )


class TrainerSettings(StreamSettings):
    """How often to train, on what, and what a candidate must show."""

    train_every_days: Annotated[int, Field(ge=1, le=90, description="days between two trainings")] = 7
    train_days: Annotated[
        int, Field(ge=42, le=3650, description="days of bars that a training looks at, at most")
    ] = 365
    train_window: Annotated[
        Literal["rolling", "expanding"],
        Field(description="`rolling`: the last `HOURCAST_TRAIN_DAYS`; `expanding`: all bars that there are"),
    ] = "rolling"
    model_kind: Annotated[
        str,
        Field(description="kind of model that is trained for production"),
    ] = "ensemble"
    ensemble_members: Annotated[
        tuple[str, ...],
        NoDecode,
        LISTED,
        Field(
            min_length=2, description="kinds that an ensemble averages, with commas between them or as JSON"
        ),
    ] = ("volatility", "boosting", "lstm")
    embargo_h: Annotated[
        int,
        Field(
            ge=0,
            le=336,
            description="hours between the last close of the training and the first that is judged",
        ),
    ] = 24
    gate_days: Annotated[
        int, Field(ge=7, le=60, description="days after the training span on which a candidate is measured")
    ] = 14
    gate_margin: Annotated[
        float,
        Field(
            ge=0, le=0.5, description="how much worse than naive and champion a candidate may be (0.02: 2 %)"
        ),
    ] = 0.02
    gate_p: Annotated[
        float,
        Field(
            gt=0,
            le=0.5,
            description="p below which a candidate is shown to be no worse than that, at a look and over all looks of a year",
        ),
    ] = 0.1
    champion_days: Annotated[
        int,
        Field(
            ge=21,
            le=180,
            description="days without training on which a version challenges the champion, once",
        ),
    ] = 42
    champion_p: Annotated[
        float,
        Field(
            gt=0, lt=0.5, description="p below which a challenger has proved itself better than the champion"
        ),
    ] = 0.025
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of every random choice in training")] = 7
    lstm_hidden: Annotated[int, Field(ge=2, le=512, description="width of the LSTM")] = 16
    lstm_window_h: Annotated[int, Field(ge=2, le=336, description="hours that the LSTM looks at")] = 24
    lstm_epochs: Annotated[int, Field(ge=1, le=1000, description="epochs at most; it stops early")] = 6
    boosting_rounds: Annotated[
        int, Field(ge=3, le=2000, description="trees of gradient boosting for each of six horizons")
    ] = 60
    trainer_device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(description="where networks are trained; `auto` is CUDA where torch finds it"),
    ] = "auto"
    train_threads: Annotated[
        int, Field(ge=1, le=64, description="threads of one training; 1 is exactly repeatable")
    ] = 1
    train_poll_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds between two looks of `hourcast train --watch`")
    ] = 1.0

    @field_validator("model_kind")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        # Kinds are fitted by settings, so their modules import this one.
        from hourcast_trainer.models import trainable

        if value not in trainable():
            raise ValueError(
                _gone(value)
                or f"there is no kind of model {value!r} to train; there are {', '.join(trainable())}"
            )
        return value

    @model_validator(mode="after")
    def _different_members(self) -> Self:
        from hourcast_trainer.models import members_of, trainable

        possible = [kind for kind in trainable() if not members_of(kind, self)]
        if unknown := [kind for kind in self.ensemble_members if kind not in possible]:
            raise ValueError(
                _gone(unknown[0])
                or f"there is no kind of model {unknown[0]!r} to be a member of an ensemble; there are {', '.join(possible)}"
            )
        if len(set(self.ensemble_members)) != len(self.ensemble_members):
            raise ValueError(f"ensemble members must differ, but they are {list(self.ensemble_members)}")
        return self

    @property
    def model_series(self) -> tuple[Series, ...]:
        """The exogenous series that models look at."""
        return tuple(series for series in self.exogenous if series.symbol in self.feature_series)
