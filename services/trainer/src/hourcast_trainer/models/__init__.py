"""Kinds of model behind one small interface. A further kind is a module with a `Model` and a line in `_KINDS`."""

from hourcast_trainer.models._interface import (
    Compared,
    ComparedFit,
    EpochLosses,
    FitRequest,
    Fitted,
    Forecasting,
    Hyper,
    Model,
    describe,
)
from hourcast_trainer.models._network import DEVICE_TOLERANCE
from hourcast_trainer.models._registered import (
    COMPARED,
    MODELS,
    Kind,
    members_of,
    register,
    spoken,
    title_of,
    trainable,
    unregister,
)
from hourcast_trainer.models._samples import samples_of
from hourcast_trainer.models.boosting import BoostingModel
from hourcast_trainer.models.ensemble import EnsembleModel
from hourcast_trainer.models.lstm import LstmModel
from hourcast_trainer.models.naive import NaiveModel
from hourcast_trainer.models.prophet import ProphetModel
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
    "Forecasting",
    "Hyper",
    "Kind",
    "Model",
    "describe",
    "members_of",
    "register",
    "samples_of",
    "spoken",
    "title_of",
    "trainable",
    "unregister",
]

_KINDS = (
    Kind(NaiveModel(), spoken="naive"),
    Kind(VolatilityModel()),
    Kind(BoostingModel()),
    Kind(LstmModel(), title="LSTM", spoken="the LSTM"),
    Kind(EnsembleModel(MODELS), spoken="the ensemble"),
    Kind(ProphetModel(), title="Prophet", spoken="Prophet"),
)
for _kind in _KINDS:
    register(_kind)
