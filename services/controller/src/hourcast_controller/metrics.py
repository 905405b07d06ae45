"""What the controller says of itself over HTTP: `/metrics`, `/livez`, `/readyz`."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from hourcast.side_server import SideHandler, SideServer

__all__ = ["HealthServer", "Metrics"]

_DEAD_AFTER_S = 60.0
_SECONDS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120, 300, 600)


class Metrics:
    """The figures, and the heartbeat that liveness is judged by."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._beat_s = clock()
        self._beaten = False
        prefix = "hourcast_controller"
        self.leader = Gauge(f"{prefix}_leader", "1 while this controller leads", registry=self.registry)
        self.turns = Counter(f"{prefix}_turns", "turns that ended", registry=self.registry)
        self.turn_seconds = Histogram(
            f"{prefix}_turn_seconds",
            "seconds of a turn",
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.actions = Counter(f"{prefix}_actions", "actions by kind", ["kind"], registry=self.registry)
        self.desired = Gauge(
            f"{prefix}_desired_version", "version that should be served; 0: none", registry=self.registry
        )
        self.serving = Gauge(
            f"{prefix}_serving_version", "version that is served; 0: none", registry=self.registry
        )
        self.rolling = Gauge(f"{prefix}_rolling", "1 while a roll is under way", registry=self.registry)
        self.quarantined = Gauge(
            f"{prefix}_quarantined_versions", "versions in quarantine", registry=self.registry
        )
        self.blocked = Gauge(
            f"{prefix}_blocked",
            "1 while a version waits for a place or a setting to be mended",
            registry=self.registry,
        )
        self.up = Gauge(
            f"{prefix}_up", "1 when the last read of it was answered", ["of"], registry=self.registry
        )
        self.roll_seconds = Histogram(
            f"{prefix}_roll_seconds",
            "seconds from the start of a roll until all of its servers were ready",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.package_seconds = Histogram(
            f"{prefix}_package_seconds",
            "seconds from the start of a packaging job until its package was in the bucket",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.webhooks = Counter(
            f"{prefix}_webhook_deliveries", "webhook deliveries", ["outcome"], registry=self.registry
        )
        for outcome in ("accepted", "refused"):
            self.webhooks.labels(outcome)

    def beat(self) -> None:
        """Say that a turn, or a look at the lease, has ended."""
        self._beat_s, self._beaten = self._clock(), True

    def dead(self) -> str | None:
        """Why this process should be started again, or None."""
        age = self._clock() - self._beat_s
        if age > _DEAD_AFTER_S:
            return f"nothing has ended for {age:.0f} s"
        return None

    @property
    def ready(self) -> bool:
        """Whether it has looked around once."""
        return self._beaten

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self.registry)


class HealthServer(SideServer):
    """Answers on one port. `start` it, `stop` it."""

    def __init__(self, host: str, port: int, metrics: Metrics) -> None:
        class Handler(SideHandler):
            def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
                status, kind, body = (
                    404,
                    "text/plain; charset=utf-8",
                    b"there are /metrics, /livez and /readyz\n",
                )
                if self.path == "/metrics":
                    status, kind, body = 200, CONTENT_TYPE_LATEST, metrics.text()
                elif self.path == "/livez":
                    dead = metrics.dead()
                    status, body = (200, b"ok\n") if dead is None else (503, f"{dead}\n".encode())
                elif self.path == "/readyz":
                    status, body = (200, b"ok\n") if metrics.ready else (503, b"the first look is not over\n")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(host, port, Handler, "health")
