"""Figures and health over HTTP."""

import urllib.error
import urllib.request

from hourcast_controller.metrics import HealthServer, Metrics


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_follows_the_heartbeat() -> None:
    """Not ready before the first look, ready after it, dead when nothing has ended for a minute."""
    now = [0.0]
    metrics = Metrics(lambda: now[0])
    server = HealthServer("127.0.0.1", 0, metrics)
    server.start()
    try:
        assert _get(server.port, "/readyz") == (503, "the first look is not over\n")
        metrics.beat()
        assert _get(server.port, "/readyz") == (200, "ok\n")
        now[0] = 60
        assert _get(server.port, "/livez") == (200, "ok\n")
        now[0] = 61
        assert _get(server.port, "/livez") == (503, "nothing has ended for 61 s\n")
        assert _get(server.port, "/else")[0] == 404
        metrics.serving.set(7)
        metrics.blocked.set(1)
        metrics.actions.labels("Roll").inc()
        status, text = _get(server.port, "/metrics")
        assert status == 200
        assert "hourcast_controller_serving_version 7.0" in text
        assert "hourcast_controller_blocked 1.0" in text
        assert 'hourcast_controller_actions_total{kind="Roll"} 1.0' in text
        assert 'hourcast_controller_webhook_deliveries_total{outcome="refused"} 0.0' in text
    finally:
        server.stop()
