"""Steady requests to 127.0.0.1, bounded in rate, count and time, and how each was answered."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import httpx

from tests.servers import wait_for

_LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it began and ended (monotonic seconds), its status (0: no answer), version and server that answered."""

    began_s: float
    ended_s: float
    status: int
    version: int | None
    problem: str = ""
    server: str = ""


@dataclass
class Load:
    """Clients that ask at a steady rate; half of them keep their connection, half open one a request."""

    url: str
    clients: int = 4
    per_second: float = 40.0
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        assert self.url.startswith("http://127.0.0.1:"), "load goes to this machine only"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i % 2 == 0,)) for i in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def _ask(self, keep: bool) -> None:
        pause = self.clients / self.per_second
        end = time.monotonic() + _LONGEST_S
        headers = {} if keep else {"Connection": "close"}
        with httpx.Client(timeout=30, trust_env=False, headers=headers) as client:
            due = time.monotonic()
            while not self._stop.is_set() and time.monotonic() < end:
                began = time.monotonic()
                try:
                    answer = client.get(f"{self.url}/predict?horizon=1")
                    # The forecast is the hour's, whichever version issued it: the header says who answers.
                    served = answer.headers.get("X-Hourcast-Served-Version")
                    version = int(served) if answer.status_code == 200 and served else None
                    one = Answer(
                        began,
                        time.monotonic(),
                        answer.status_code,
                        version,
                        "" if version else answer.text[:200],
                        answer.headers.get("X-Hourcast-Server", ""),
                    )
                except (httpx.HTTPError, ValueError) as error:
                    one = Answer(began, time.monotonic(), 0, None, repr(error))
                self.answers.append(one)
                due = max(due + pause, time.monotonic() - 1)
                self._stop.wait(max(0.0, due - time.monotonic()))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> Counter[int]:
        """How many answers of each status; 0 are those that never came."""
        return Counter(a.status for a in self.answers)

    def failed(self) -> list[Answer]:
        """Requests that were not answered by a forecast."""
        return [a for a in self.answers if a.status != 200]

    def last_of_others(self, version: int, since_s: float) -> float:
        """When the last answer of another version than `version` ended, at least `since_s`."""
        others = [a.ended_s for a in self.answers if a.version not in (None, version)]
        return max([since_s, *others])

    def wait_taken(self, version: int, since_s: float, limit_s: float = 90) -> None:
        """Wait until nothing but `version` has answered for three seconds. Only answers are looked at, to take no processor."""
        wait_for(
            lambda: (
                any(a.version == version for a in self.answers)
                and time.monotonic() - self.last_of_others(version, since_s) > 3
            ),
            limit_s,
            f"roll to version {version}",
        )

    def servers(self) -> frozenset[str]:
        """Servers that have answered so far."""
        return frozenset(a.server for a in self.answers)

    def last_of(self, servers: frozenset[str], since_s: float) -> float:
        """When the last answer of one of these servers ended, at least `since_s`."""
        return max([since_s, *(a.ended_s for a in self.answers if a.server in servers)])

    def wait_replaced(self, servers: frozenset[str], since_s: float, limit_s: float = 90) -> None:
        """Wait until for three seconds none of these servers has answered, and others have."""
        wait_for(
            lambda: bool(self.servers() - servers) and time.monotonic() - self.last_of(servers, since_s) > 3,
            limit_s,
            "answers of other servers alone",
        )

    def tell(self) -> str:
        """Counts in words."""
        spent = sorted(a.ended_s - a.began_s for a in self.answers)
        p99 = spent[int(0.99 * (len(spent) - 1))] * 1000 if spent else 0
        return f"{len(self.answers)} requests, {len(self.failed())} failed, p99 {p99:.0f} ms"
