"""MLflow's webhook, heard as a hint only: the registry is read again whatever it says.

MLflow signs `<delivery id>.<timestamp>.<body>` with HMAC-SHA256 and sends `v1,<base64>`
(mlflow/webhooks/delivery.py; header names in mlflow/webhooks/constants.py).
"""

import base64
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Webhook", "sign", "verify"]

WEBHOOK_SIGNATURE_HEADER = "X-MLflow-Signature"
WEBHOOK_TIMESTAMP_HEADER = "X-MLflow-Timestamp"
WEBHOOK_DELIVERY_ID_HEADER = "X-MLflow-Delivery-Id"
WEBHOOK_SIGNATURE_VERSION = "v1"

_LOG = logging.getLogger(__name__)
_MAX_AGE_S = 300
_MAX_BODY = 1_000_000


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature that MLflow sends."""
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"{WEBHOOK_SIGNATURE_VERSION},{base64.b64encode(digest).decode()}"


def verify(
    secret: str, delivery_id: str, timestamp: str, signature: str, body: bytes, now_s: float
) -> str | None:
    """None when a delivery is genuine and recent, else the reason why it is not."""
    if not timestamp.isdigit() or abs(now_s - int(timestamp)) > _MAX_AGE_S:
        return f"the timestamp is missing or more than {_MAX_AGE_S} s off"
    if not hmac.compare_digest(sign(secret, delivery_id, timestamp, body).encode(), signature.encode()):
        return "the signature does not match"
    return None


class Webhook:
    """Listens, and calls `hint` for each genuine delivery."""

    def __init__(self, host: str, port: int, secret: str, hint: Callable[[], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:  # the name that http.server calls
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size) if 0 <= size <= _MAX_BODY else b""
                wrong = (
                    "the path is not /webhook"
                    if self.path != "/webhook"
                    else verify(
                        secret,
                        self.headers.get(WEBHOOK_DELIVERY_ID_HEADER, ""),
                        self.headers.get(WEBHOOK_TIMESTAMP_HEADER, ""),
                        self.headers.get(WEBHOOK_SIGNATURE_HEADER, ""),
                        body,
                        time.time(),
                    )
                )
                if wrong is None:
                    hint()
                else:
                    _LOG.warning("a webhook delivery was refused: %s", wrong)
                self.send_response(204 if wrong is None else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as above
                """Deliveries are not worth a line each."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True)

    @property
    def port(self) -> int:
        """The port that is heard."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
