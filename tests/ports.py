"""Free ports of 127.0.0.1 for tests and benches: none is given twice, nor to two runs side by side."""

import contextlib
import socket
from collections.abc import Iterator

_FIRST, _LAST, _BLOCK = 10_000, 29_999, 200  # below the ports that Linux gives to outgoing connections
_held: list[socket.socket] = []


def find_port() -> int:
    """A port of 127.0.0.1 that nobody uses now and that no test has been given before."""
    return next(_ports)


def _numbered() -> Iterator[int]:
    """Ports of blocks that are this process's own: it keeps the first port of each bound until it ends."""
    for first in range(_FIRST, _LAST, _BLOCK):
        if (holder := _bound(first)) is None:
            continue
        _held.append(holder)
        for port in range(first + 1, first + _BLOCK):
            if (probe := _bound(port)) is not None:
                probe.close()
                yield port
    raise OSError(f"no port of 127.0.0.1 between {_FIRST} and {_LAST} is free")


def _bound(port: int) -> socket.socket | None:
    """A socket that has the port; None where another has it."""
    holder = socket.socket()
    with contextlib.suppress(OSError):
        holder.bind(("127.0.0.1", port))
        return holder
    holder.close()
    return None


_ports = _numbered()
