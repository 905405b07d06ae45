"""Kinds of model behind one small interface. A further kind is a module with a `Model` and a line in `MODELS`."""

from hourcast_trainer.models._interface import EpochLosses, FitRequest, Fitted, Model
from hourcast_trainer.models.lstm import LstmModel
from hourcast_trainer.models.naive import NaiveModel

__all__ = ["MODELS", "EpochLosses", "FitRequest", "Fitted", "LstmModel", "Model", "NaiveModel"]

MODELS: dict[str, Model] = {"naive": NaiveModel(), "lstm": LstmModel()}
