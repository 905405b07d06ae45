"""`python -m tests.flood URL RATE SECONDS`: requests that come whether or not the earlier ones were answered, as those of many callers do.

A process of its own, so that it takes no turn from who looks at the answers. It goes to 127.0.0.1 only, ends by itself, and prints
one JSON object: `answers` by status (0: none came within ten seconds), `p50_s`, `p99_s` and `longest_s` of all, and `took_s`.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

_PATIENCE_S, _LONGEST_S, _MOST_CONNECTIONS = 10.0, 60.0, 20_000


@dataclass(frozen=True)
class Flooded:
    """How a flood was answered."""

    answers: dict[int, int]
    p50_s: float
    p99_s: float
    longest_s: float
    took_s: float

    @property
    def rate(self) -> float:
        """Answers with 200 a second."""
        return self.answers.get(200, 0) / self.took_s

    @property
    def unanswered(self) -> int:
        """Requests that got no answer."""
        return self.answers.get(0, 0)


def flood(url: str, rate: float, seconds: float) -> Flooded:
    """Send `rate` requests a second for so long, by another process; wait for the answers."""
    words = [sys.executable, "-m", "tests.flood", url, str(rate), str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_LONGEST_S + 30)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout)
    return Flooded({int(status): count for status, count in found.pop("answers").items()}, **found)


class _Connections:
    def __init__(self, host: str, port: int, path: str) -> None:
        self._to = (host, port)
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0

    async def ask(self) -> int:
        """One request; the status."""
        if self._free:
            reader, writer = self._free.pop()
        elif self._open < _MOST_CONNECTIONS:
            self._open += 1
            reader, writer = await asyncio.open_connection(*self._to)
        else:
            raise OSError("no connection is left")
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            self._open -= 1
            writer.close()
            raise
        if b"connection: close" in head:
            self._open -= 1
            writer.close()
        else:
            self._free.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def _flood(url: str, rate: float, seconds: float) -> dict[str, object]:
    parts = urlsplit(url)
    assert parts.hostname == "127.0.0.1", "a flood goes to this machine only"
    assert parts.port, "the port is missing"
    connections = _Connections(
        parts.hostname, parts.port, parts.path + (f"?{parts.query}" if parts.query else "")
    )
    answers: Counter[int] = Counter()
    took: list[float] = []

    async def one() -> None:
        began, status = time.monotonic(), 0
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PATIENCE_S):
                status = await connections.ask()
        answers[status] += 1
        took.append(time.monotonic() - began)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for i in range(int(rate * min(seconds, _LONGEST_S))):
            if (early := began + i / rate - time.monotonic()) > 0.001:
                await asyncio.sleep(early)
            elif i % 50 == 0:
                await asyncio.sleep(0)
            group.create_task(one())
    whole = time.monotonic() - began
    connections.close()
    took.sort()
    return {
        "answers": dict(answers), "p50_s": took[len(took) // 2], "p99_s": took[int(0.99 * (len(took) - 1))],
        "longest_s": took[-1], "took_s": whole,
    }  # fmt: skip


if __name__ == "__main__":
    from hourcast.slots import raise_file_limit

    raise_file_limit()
    print(json.dumps(asyncio.run(_flood(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))
