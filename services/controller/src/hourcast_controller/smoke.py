"""What `helm test` asks: does an installation answer?"""

import time
from collections.abc import Callable, Iterator

import httpx

from hourcast.errors import HourcastError

__all__ = ["SmokeError", "check"]

_EVERY_S = 1.0


class SmokeError(HourcastError):
    """A service does not answer as it should."""


def check(
    api: str, viz: str, mlflow: str, *, wait_s: float = 60.0, sleep: Callable[[float], None] = time.sleep
) -> Iterator[str]:
    """A line for each service that answers well.

    Raises:
        SmokeError: for the first that does not within `wait_s`.
    """
    api, viz, mlflow = (url.rstrip("/") for url in (api, viz, mlflow))
    end_s = time.monotonic() + wait_s
    with httpx.Client(timeout=10, trust_env=False, follow_redirects=True) as client:
        for what, look in (
            ("the API is ready", lambda: _expect(client, f"{api}/readyz")),
            ("the API forecasts", lambda: _forecast(client, api)),
            ("the dashboard answers", lambda: _expect(client, f"{viz}/_stcore/health")),
            ("MLflow answers", lambda: _expect(client, f"{mlflow}/health")),
        ):
            yield f"ok: {what}{_insist(what, look, end_s, sleep)}"


def _insist(what: str, look: Callable[[], str], end_s: float, sleep: Callable[[float], None]) -> str:
    # Not stamina's, whose time would begin anew with each service: all of them share one.
    while True:
        try:
            return look()
        except (SmokeError, httpx.HTTPError, ValueError) as error:
            if time.monotonic() >= end_s:
                said = str(error) if isinstance(error, SmokeError) else f"{type(error).__name__}: {error}"
                raise SmokeError(
                    f"it is not so that {what}: {said}; `hourcast status` and `kubectl get pods` tell more"
                ) from error
        sleep(_EVERY_S)


def _expect(client: httpx.Client, url: str) -> str:
    answer = client.get(url)
    if answer.status_code != 200:
        raise SmokeError(f"{url} answers {answer.status_code}: {answer.text[:200].strip()}")
    return f" ({url})"


def _forecast(client: httpx.Client, api: str) -> str:
    url = f"{api}/predict?horizon=1"
    answer = client.get(url)
    if answer.status_code != 200:
        raise SmokeError(f"{url} answers {answer.status_code}: {answer.text[:200].strip()}")
    version, header = answer.json().get("version"), answer.headers.get("X-Hourcast-Model-Version")
    if str(version) != header:
        raise SmokeError(f"{url} answers with version {version}, but its header names {header}")
    return f" with version {version} ({url})"
