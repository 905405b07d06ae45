"""Ports, looked at before anything starts."""

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from hourcast.errors import ConfigurationError

__all__ = ["Chosen", "Port", "choose"]

_NEXT = 100


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is wanted: its setting, what it is for, its number, and whether a person asked for that number."""

    setting: str
    what: str
    number: int
    asked: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The number that a part gets, and why it is another than the usual one."""

    number: int
    moved: str = ""


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return True
    # macOS lets us bind beside a server that listens on every address, as AirPlay does on 5000.
    with socket.socket() as caller:
        caller.settimeout(0.2)
        return caller.connect_ex(("127.0.0.1", port)) == 0


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and tuple(connection.laddr)[1:2] == (port,)
                and connection.pid
            ):
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def choose(ports: Iterable[Port]) -> dict[str, Chosen]:
    """A number for each setting: the wanted one where it is free, else the next free one; what was asked for never moves.

    Raises:
        ConfigurationError: naming each taken port that was asked for, who has it, and the setting that moves it.
    """
    wanted = list(ports)
    given = {port.number for port in wanted}
    out: dict[str, Chosen] = {}
    told = []
    for port in wanted:
        if not _taken(port.number):
            out[port.setting] = Chosen(port.number)
            continue
        holder = _holder(port.number)
        free = next(
            (
                n
                for n in range(port.number + 1, min(port.number + _NEXT, 65535) + 1)
                if n not in given and not _taken(n)
            ),
            None,
        )
        if port.asked or free is None:
            other = "" if free is None else f", or choose another with {port.setting}={free}"
            told.append(f"port {port.number} for {port.what} is taken{holder}: stop that{other}")
            continue
        given.add(free)
        out[port.setting] = Chosen(free, f"{port.number} is taken{holder}")
    if told:
        raise ConfigurationError("; ".join(told))
    return out
