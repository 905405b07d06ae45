"""Ports, looked at before anything starts."""

import contextlib
import socket
from collections.abc import Mapping

import psutil

from hourcast.errors import ConfigurationError

__all__ = ["check_free"]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return True
    return False


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


def check_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Make sure that each port is free; `ports` maps a setting to what the port is for and its number.

    Raises:
        ConfigurationError: naming each taken port, who has it, and the setting that moves it.
    """
    told = [
        f"port {port} for {what} is taken{_holder(port)}: stop that, or choose another with {setting}={port + 100}"
        for setting, (what, port) in ports.items()
        if _taken(port)
    ]
    if told:
        raise ConfigurationError("; ".join(told))
