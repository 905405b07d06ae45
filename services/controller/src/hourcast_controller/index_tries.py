"""When the alias index is worth writing again."""

import time
from collections.abc import Mapping

__all__ = ["IndexTries"]

_AGAIN_S, _LONGEST_S = 10.0, 300.0


class IndexTries:
    """The packager leaves out an alias whose version lacks its tags; writing again at once would not help."""

    def __init__(self) -> None:
        self._aliases: dict[str, int] = {}
        self._tries, self._due_s = 0, 0.0

    def in_vain(self, aliases: Mapping[str, int]) -> bool:
        """Whether the index was just written for these very aliases; if not, it counts as written now."""
        now_s, these = time.monotonic(), dict(aliases)
        if these != self._aliases:
            self._aliases, self._tries = these, 0
        elif now_s < self._due_s:
            return True
        self._due_s = now_s + min(_LONGEST_S, _AGAIN_S * 2**self._tries)
        self._tries = min(self._tries + 1, 10)
        return False
