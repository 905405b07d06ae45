"""Kinds of model behind one small interface. A further kind is a module with a `Model` and a line in `MODELS`."""

from hourcast_trainer.models._interface import (
    Compared,
    ComparedFit,
    EpochLosses,
    FitRequest,
    Fitted,
    Hyper,
    Model,
)
from hourcast_trainer.models._network import DEVICE_TOLERANCE
from hourcast_trainer.models.boosting import BoostingModel
from hourcast_trainer.models.ensemble import EnsembleModel
from hourcast_trainer.models.lstm import LstmModel
from hourcast_trainer.models.naive import NaiveModel
from hourcast_trainer.models.prophet import ProphetModel
from hourcast_trainer.models.transformer import TransformerModel
from hourcast_trainer.models.volatility import VolatilityModel

__all__ = [
    "COMPARED",
    "DEVICE_TOLERANCE",
    "MODELS",
    "Compared",
    "ComparedFit",
    "EpochLosses",
    "FitRequest",
    "Fitted",
    "Hyper",
    "Model",
]

MODELS: dict[str, Model] = {
    model.kind: model
    for model in (NaiveModel(), VolatilityModel(), BoostingModel(), LstmModel(), TransformerModel())
}
"""Kind to model."""
MODELS["ensemble"] = EnsembleModel(MODELS)
COMPARED: dict[str, Compared] = {**MODELS, "prophet": ProphetModel()}
"""The same, and what is compared only and never served."""
