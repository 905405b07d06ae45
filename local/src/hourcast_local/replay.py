"""History played forward: the store's clock moves an hour at a time, and everything else does what it always does.

The driver only moves the clock, and at each week's end waits for the training that is due and for its version to be
served. It may die and start again: the clock is in the store.
"""

import logging
import sys
import time
from datetime import datetime, timedelta
from typing import Any

import httpx

from hourcast.contracts import HOLD_ANNOTATION, PIN_ANNOTATION, parse_hour
from hourcast.errors import ConfigurationError, UnavailableError
from hourcast.store import Evaluation, Store, open_store
from hourcast_local.processes import wait_until
from hourcast_local.settings import LocalSettings

__all__ = ["main", "span_of"]

_LOG = logging.getLogger("hourcast.replay")
_WEEK = timedelta(days=7)
_HOUR = timedelta(hours=1)
_WEEK_S = 13.0
_TRAINING_LIMIT_S = 120.0


def span_of(text: str) -> timedelta:
    """`8w` or `10d` as a span.

    Raises:
        ConfigurationError: for anything else.
    """
    units = {"w": timedelta(weeks=1), "d": timedelta(days=1)}
    if text[-1:] in units and text[:-1].isdigit() and int(text[:-1]) > 0:
        return int(text[:-1]) * units[text[-1]]
    raise ConfigurationError(f"--replay {text!r} is not a span; write it as 8w or 10d")


class _Driver:
    def __init__(self, settings: LocalSettings, store: Store, start: datetime, end: datetime) -> None:
        self._settings, self._store, self._start, self._end = settings, store, start, end
        self._client = httpx.Client(timeout=5, trust_env=False)

    def run(self) -> None:
        """Play from where the clock stands to the end."""
        with self._client:
            self._run()

    def _run(self) -> None:
        self._store.upgrade()
        try:
            now = self._store.clock()
        except UnavailableError:
            now = self._start
            self._store.set_clock(now)
        if now >= self._end:
            _LOG.info("the replay has reached its end, %s UTC", f"{self._end:%Y-%m-%d %H:%M}")
            return
        wait_until(lambda: self._served() is not None, 600, 0.2)
        self._trained(now)
        while now < self._end:
            began = time.monotonic()
            now += _HOUR
            self._store.set_clock(now)
            if (now - self._start) % _WEEK == timedelta():
                self._trained(now)
            pause = _WEEK_S / 168 - (time.monotonic() - began)
            if pause > 0:
                time.sleep(pause)
        _LOG.info("the replay has reached its end, %s UTC", f"{self._end:%Y-%m-%d %H:%M}")

    def _deployment(self) -> dict[str, Any]:
        try:
            answer = self._client.get(f"http://127.0.0.1:{self._settings.node_port}/v1/deployment")
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError):
            return {"annotations": {}, "status": {"serving_version": None, "failed_version": None}}
        return body

    def _served(self) -> int | None:
        version: int | None = self._deployment()["status"]["serving_version"]
        return version

    def _taken(self, version: int) -> bool:
        """Whether a version is served, or will not be: it failed, or a person has said otherwise."""
        body = self._deployment()
        status = body["status"]
        said = body["annotations"].keys() & {PIN_ANNOTATION, HOLD_ANNOTATION}
        return (
            (status["serving_version"] or 0) >= version or status["failed_version"] == version or bool(said)
        )

    def _decided(self, since: datetime) -> list[Evaluation]:
        return [
            e
            for e in self._store.evaluations(self._settings.model_name, "gate")
            if e.made_at >= since and e.baseline == "naive" and e.kind != "naive"
        ]

    def _no_training_runs(self) -> bool:
        try:
            with self._store.exclusive("train"):
                return True
        except UnavailableError:
            return False

    def _trained(self, now: datetime) -> None:
        """Wait until this week's training has decided and what passed is served."""
        if not wait_until(lambda: bool(self._decided(now - _WEEK + _HOUR)), _TRAINING_LIMIT_S, 0.1):
            _LOG.warning("no training has ended within %g s; the replay goes on", _TRAINING_LIMIT_S)
            return
        newest = self._decided(now - _WEEK + _HOUR)[-1]
        # A candidate that fails may be followed by the naive floor, within the same training.
        wait_until(self._no_training_runs, 30, 0.1)
        passed = [e.version for e in self._store.evaluations(self._settings.model_name, "gate") if e.passed]
        wait_until(lambda: self._taken(max(passed)), 30, 0.05)
        number, total = (now - self._start) // _WEEK, (self._end - self._start) // _WEEK
        ratio = newest.figures["ratios"].get("pinball 1 h / naive", float("nan"))
        _LOG.info(
            "week %d of %d, %s UTC: version %d %s its gate (pinball %.3f of naive); version %s is served",
            number, total, f"{now:%Y-%m-%d}", newest.version, "passed" if newest.passed else "failed", ratio,
            self._served(),
        )  # fmt: skip


def main() -> None:
    """`python -m hourcast_local.replay START END`: run by `hourcast up --replay`."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = LocalSettings.load()
    with open_store(settings.resolved_database_url) as store:
        _Driver(settings, store, parse_hour(sys.argv[1]), parse_hour(sys.argv[2])).run()
    # The end is a state that stays, not an end of the process: the supervisor would start it again.
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
