"""The kinds of model that there are. Whoever asks for one by name asks here, and nothing else lists them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hourcast_trainer.models._interface import Compared, Model
from hourcast_trainer.settings import TrainerSettings

__all__ = [
    "COMPARED",
    "MODELS",
    "Kind",
    "members_of",
    "register",
    "spoken",
    "title_of",
    "trainable",
    "unregister",
]

_FLOOR = "naive"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of model as it is registered: what fits it, and its name in a table and in a sentence.

    A model that is a `Model` can be trained and served; one that is only `Compared` is for `hourcast compare`.
    """

    model: Compared
    title: str = ""
    spoken: str = ""


_kinds: dict[str, Kind] = {}
_compared: dict[str, Compared] = {}
_models: dict[str, Model] = {}
COMPARED: Mapping[str, Compared] = MappingProxyType(_compared)
"""Name to model, of every kind, in the order in which they were registered."""
MODELS: Mapping[str, Model] = MappingProxyType(_models)
"""The same of the kinds that can be served."""


def register(kind: Kind) -> None:
    """Make a kind known: to settings, training, back-test, comparison and report.

    Raises:
        ValueError: when its name is taken, or is none.
    """
    name = kind.model.kind
    if not re.fullmatch("[a-z][a-z0-9_]{0,31}", name):
        raise ValueError(
            f"{name!r} is no name for a kind of model: a small letter, then up to 31 small letters, digits or _"
        )
    if name in _kinds:
        raise ValueError(f"there is a kind of model {name!r} already")
    _kinds[name], _compared[name] = kind, kind.model
    if isinstance(kind.model, Model):
        _models[name] = kind.model


def unregister(name: str) -> None:
    """Forget a kind, as a test does with its own."""
    for table in (_kinds, _compared, _models):
        table.pop(name, None)


def trainable() -> tuple[str, ...]:
    """The kinds that production can be told to train; the naive floor is always there and is no choice."""
    return tuple(name for name in _models if name != _FLOOR)


def members_of(name: str, settings: TrainerSettings) -> tuple[str, ...]:
    """The kinds that a kind is made of; none for most."""
    return COMPARED[name].members(settings)


def title_of(name: str) -> str:
    """A kind as it stands in a table: `LSTM`."""
    return (_kinds[name].title if name in _kinds else "") or name


def spoken(name: str) -> str:
    """A kind as it stands in a sentence: `the LSTM`."""
    return (_kinds[name].spoken if name in _kinds else "") or f"the {title_of(name)} model"
