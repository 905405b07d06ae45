"""MLflow's webhook, heard as a hint only: the registry is read again whatever it says.

MLflow signs `<delivery id>.<timestamp>.<body>` with HMAC-SHA256 and sends `v1,<base64>`
(mlflow/webhooks/delivery.py; header names in mlflow/webhooks/constants.py).
"""

import base64
import hashlib
import hmac
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from hourcast.side_server import SideHandler, SideServer

__all__ = ["Deliveries", "Webhook", "sign", "verify"]

WEBHOOK_SIGNATURE_HEADER = "X-MLflow-Signature"
WEBHOOK_TIMESTAMP_HEADER = "X-MLflow-Timestamp"
WEBHOOK_DELIVERY_ID_HEADER = "X-MLflow-Delivery-Id"
WEBHOOK_SIGNATURE_VERSION = "v1"

_LOG = logging.getLogger(__name__)
_MAX_AGE_S = 300
_MAX_BODY = 1_000_000
_MAX_REMEMBERED = 10_000
_STAMP = re.compile("[0-9]{1,15}")


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature that MLflow sends."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"{WEBHOOK_SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def verify(
    secret: str, delivery_id: str, timestamp: str, signature: str, body: bytes, now_s: float
) -> str | None:
    """None when a delivery is genuine and recent, else the reason why it is not."""
    stamped = _STAMP.fullmatch(timestamp)
    if stamped is None or abs(now_s - int(timestamp)) > _MAX_AGE_S:
        return f"the timestamp is missing or more than {_MAX_AGE_S} s off"
    if not hmac.compare_digest(sign(secret, delivery_id, timestamp, body).encode(), signature.encode()):
        return "the signature does not match"
    return None


class Deliveries:
    """Which deliveries were heard, for as long as their timestamp would pass; the newest ten thousand at most."""

    def __init__(self) -> None:
        self._heard: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def first(self, delivery_id: str, now_s: float) -> bool:
        """Remember a delivery; False when it was heard before."""
        with self._lock:
            # A timestamp may be as far ahead as behind, so a delivery can come again for twice that long.
            while self._heard and now_s - next(iter(self._heard.values())) > 2 * _MAX_AGE_S:
                self._heard.popitem(last=False)
            if delivery_id in self._heard:
                return False
            self._heard[delivery_id] = now_s
            if len(self._heard) > _MAX_REMEMBERED:
                self._heard.popitem(last=False)
            return True


class Webhook(SideServer):
    """Listens, and calls `hint` for each genuine delivery.

    `hear` shares a delivery with other controllers, and is False when one of them has heard it. `count` is told of
    each outcome, `accepted` or `refused`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        secret: str,
        hint: Callable[[], None],
        *,
        hear: Callable[[str], bool] = lambda _id: True,
        count: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        deliveries = Deliveries()

        def refused(path: str, delivery_id: str, timestamp: str, signature: str, body: bytes) -> str | None:
            if path != "/webhook":
                return "the path is not /webhook"
            now_s = time.time()
            wrong = verify(secret, delivery_id, timestamp, signature, body, now_s)
            if wrong is not None:
                return wrong
            if not deliveries.first(delivery_id, now_s) or not hear(delivery_id):
                return "the delivery was heard before"
            return None

        class Handler(SideHandler):
            def do_POST(self) -> None:  # noqa: N802  # the name that http.server calls
                length = self.headers.get("Content-Length") or "0"
                size = int(length) if _STAMP.fullmatch(length) else 0
                body = self.rfile.read(size) if 0 <= size <= _MAX_BODY else b""
                wrong = refused(
                    self.path,
                    self.headers.get(WEBHOOK_DELIVERY_ID_HEADER, ""),
                    self.headers.get(WEBHOOK_TIMESTAMP_HEADER, ""),
                    self.headers.get(WEBHOOK_SIGNATURE_HEADER, ""),
                    body,
                )
                count("accepted" if wrong is None else "refused")
                if wrong is None:
                    hint()
                else:
                    _LOG.warning("a webhook delivery was refused: %s", wrong)
                answer = b"" if wrong is None else f"{wrong}\n".encode()
                self.send_response(204 if wrong is None else 401)
                if answer:
                    self.send_header("Content-Type", "text/plain; charset=utf-8")
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        super().__init__(host, port, Handler, "webhook")
