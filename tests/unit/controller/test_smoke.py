"""What `helm test` asks."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from hourcast_controller.smoke import SmokeError, check


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, tuple[int, dict[str, str], str]]]]:
    """A server that answers as the mapping says, and its address."""
    pages: dict[str, tuple[int, dict[str, str], str]] = {
        "/readyz": (200, {}, ""),
        "/predict?horizon=1": (200, {"X-Hourcast-Model-Version": "7"}, json.dumps({"version": 7})),
        "/_stcore/health": (200, {}, "ok"),
        "/health": (200, {}, "OK"),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages.get(self.path, (404, {}, "no such page"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()
    server.server_close()
    thread.join()


def test_each_service_that_answers_is_a_line(
    answers: tuple[str, dict[str, tuple[int, dict[str, str], str]]],
) -> None:
    """Ready, forecast with its version, dashboard, MLflow."""
    url, _ = answers
    assert list(check(url, url, url, wait_s=0)) == [
        f"ok: the API is ready ({url}/readyz)",
        f"ok: the API forecasts with version 7 ({url}/predict?horizon=1)",
        f"ok: the dashboard answers ({url}/_stcore/health)",
        f"ok: MLflow answers ({url}/health)",
    ]


def test_the_first_that_fails_is_told(
    answers: tuple[str, dict[str, tuple[int, dict[str, str], str]]],
) -> None:
    """An answer of another version than its header, and an answer that is no 200, end it with a sentence."""
    url, pages = answers
    pages["/predict?horizon=1"] = (200, {"X-Hourcast-Model-Version": "8"}, json.dumps({"version": 7}))
    with pytest.raises(SmokeError) as caught:
        list(check(url, url, url, wait_s=0))
    assert str(caught.value) == (
        f"it is not so that the API forecasts: {url}/predict?horizon=1 answers with version 7, but its header names 8; "
        "`hourcast status` and `kubectl get pods` tell more"
    )
    pages["/readyz"] = (503, {}, "no bars")
    with pytest.raises(SmokeError, match="the API is ready: .*/readyz answers 503: no bars"):
        list(check(url, url, url, wait_s=0))
    assert SmokeError.exit_code == 1


def test_it_waits_for_what_starts(answers: tuple[str, dict[str, tuple[int, dict[str, str], str]]]) -> None:
    """A service that is ready at the second look is ready."""
    url, pages = answers
    pages["/readyz"] = (503, {}, "starting")

    def pause(_seconds: float) -> None:
        pages["/readyz"] = (200, {}, "")

    assert len(list(check(url, url, url, wait_s=30, sleep=pause))) == 4
