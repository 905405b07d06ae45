"""`callback_url`: posts a result to a host on the allow-list, and to no other."""

import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hourcast.errors import RefusedError

__all__ = ["Destination", "check", "post"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Destination:
    """A callback that was checked; `address` is what its name resolved to then, and what is called."""

    url: str
    host: str
    port: int
    address: str


def check(url: str, allowed: Sequence[str], allow_private: bool) -> Destination:
    """Make sure that a callback may be called.

    Raises:
        RefusedError: when its form, its host or its address is not allowed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise RefusedError("callback_url is not a URL; write it as https://host/path") from None
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password:
        raise RefusedError("callback_url must be http:// or https:// with a host and no credentials")
    names = {name.lower() for name in allowed}
    if host not in names and f"{host}:{port}" not in names:
        raise RefusedError(
            f"callback_url: host {host!r} is not on the allow-list; an operator adds it to HOURCAST_CALLBACK_HOSTS"
        )
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        raise RefusedError(f"callback_url: host {host!r} does not resolve") from None
    if not allow_private and not all(ipaddress.ip_address(address).is_global for address in found):
        raise RefusedError(f"callback_url: host {host!r} resolves to an address that is not public")
    return Destination(url, host, port, min(found))


def post(destination: Destination, body: dict[str, Any], timeout_s: float) -> None:
    """Post `body` as JSON to the address that was checked; redirects are not followed, failures are logged."""
    import httpx

    parts = urlsplit(destination.url)
    address = f"[{destination.address}]" if ":" in destination.address else destination.address
    # Calling the checked address keeps a name from resolving to another one between check and call.
    url = parts._replace(netloc=f"{address}:{destination.port}").geturl()
    try:
        with httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False) as client:
            answer = client.post(
                url,
                json=body,
                headers={"Host": parts.netloc},
                extensions={"sni_hostname": destination.host},
            )
        _LOG.info("callback to %s answered %d", destination.host, answer.status_code)
    except httpx.HTTPError as error:
        _LOG.warning("callback to %s failed: %s", destination.host, type(error).__name__)
