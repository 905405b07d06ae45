"""What was said already, so that nothing is said each second."""

import logging
from collections.abc import Callable
from typing import TypeVar

from hourcast.errors import UnavailableError

__all__ = ["Told"]

_LOG = logging.getLogger("hourcast.controller")
T = TypeVar("T")


class Told:
    """Sentences in the log, each under a name; one is said again when it has changed. Of one thread."""

    def __init__(self) -> None:
        self._sentences: dict[str, str] = {}

    def of(self, name: str) -> str | None:
        """What was said last under a name, while it stands."""
        return self._sentences.get(name)

    def say(self, name: str, sentence: str) -> None:
        """Log a sentence once, until it changes; an empty one is forgotten."""
        if not sentence:
            self._sentences.pop(name, None)
        elif self._sentences.get(name) != sentence:
            _LOG.warning("%s", sentence)
            self._sentences[name] = sentence

    def attempt(self, name: str, read: Callable[[], T]) -> T | None:
        """What `read` gives; None, and said, where what it asks does not answer."""
        try:
            value = read()
        except UnavailableError as error:
            self.say(name, str(error))
            return None
        if self._sentences.pop(name, None) is not None:
            _LOG.info("%s answers again", name)
        return value
