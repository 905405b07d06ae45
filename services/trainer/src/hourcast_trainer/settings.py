"""The trainer's settings."""

from typing import Annotated

from pydantic import Field

from hourcast.settings import CoreSettings

__all__ = ["TrainerSettings"]


class TrainerSettings(CoreSettings):
    """How often to train, on what, and what a candidate must show."""

    train_every_days: Annotated[int, Field(ge=1, le=90, description="days between two trainings")] = 7
    train_days: Annotated[
        int, Field(ge=42, le=3650, description="days of bars that a training looks at, at most")
    ] = 365
    gate_days: Annotated[
        int, Field(ge=2, le=60, description="days after the training span on which a candidate is measured")
    ] = 14
    gate_margin: Annotated[
        float,
        Field(
            ge=0, le=0.5, description="how much worse than naive and champion a candidate may be (0.01: 1 %)"
        ),
    ] = 0.01
    champion_p: Annotated[
        float,
        Field(
            gt=0, lt=0.5, description="p below which a candidate has proved itself better than the champion"
        ),
    ] = 0.05
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="seed of every random choice in training")] = 7
    lstm_hidden: Annotated[int, Field(ge=2, le=512, description="width of the LSTM")] = 16
    lstm_window_h: Annotated[int, Field(ge=2, le=336, description="hours that the LSTM looks at")] = 24
    lstm_epochs: Annotated[int, Field(ge=1, le=1000, description="epochs at most; it stops early")] = 8
    train_threads: Annotated[
        int, Field(ge=1, le=64, description="threads of one training; 1 is exactly repeatable")
    ] = 1
    train_poll_s: Annotated[
        float, Field(gt=0, le=3600, description="seconds between two looks of `hourcast train --watch`")
    ] = 1.0
