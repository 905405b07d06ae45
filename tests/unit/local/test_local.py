"""Ports, spans, children: what `hourcast up` is made of."""

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from hourcast.errors import ConfigurationError, HourcastError
from hourcast_local.ports import check_free
from hourcast_local.processes import MARK, end_all, leftovers, wait_until
from hourcast_local.replay import span_of
from hourcast_local.supervisor import Component, Supervisor

_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def test_a_taken_port_is_named_with_who_has_it_and_what_to_do() -> None:
    """Port, purpose, holder and the setting that moves it, before anything starts."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            check_free({"HOURCAST_API_PORT": ("the API", port)})
        name = psutil.Process().name()
        assert str(caught.value) == (
            f"port {port} for the API is taken by {name} (process {os.getpid()}): stop that, "
            f"or choose another with HOURCAST_API_PORT={port + 100}"
        )
    check_free({"HOURCAST_API_PORT": ("the API", port)})


@pytest.mark.parametrize(("text", "days"), [("8w", 56), ("10d", 10)])
def test_spans_are_weeks_or_days(text: str, days: int) -> None:
    """8w and 10d."""
    assert span_of(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["8", "w", "0w", "-1w", "8m", ""])
def test_other_spans_are_refused(text: str) -> None:
    """The message shows both forms."""
    with pytest.raises(ConfigurationError) as caught:
        span_of(text)
    assert str(caught.value) == f"--replay {text!r} is not a span; write it as 8w or 10d"


@pytest.fixture
def lines() -> list[str]:
    """What a supervisor says."""
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[str]) -> Supervisor:
    """A supervisor that logs into a folder of the test."""
    return Supervisor(tmp_path, lines.append, pause_s=0.01)


def test_a_child_that_dies_is_started_again(supervisor: Supervisor, lines: list[str]) -> None:
    """Kill -9 of a child: it comes back under another process id, and that is said."""
    supervisor.start([Component("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])])
    first = supervisor.processes()["sleeper"]
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        supervisor.tend()
        return supervisor.processes().get("sleeper", first) != first

    assert wait_until(again, 10, 0.05)
    assert lines == ["sleeper ended with -9 and is started again"]
    supervisor.end(5)
    assert supervisor.processes() == {}


def test_a_child_that_cannot_live_is_given_up_with_its_log(tmp_path: Path, supervisor: Supervisor) -> None:
    """After six quick deaths the error names the child and its log."""
    supervisor.start([Component("broken", [sys.executable, "-c", "raise SystemExit(7)"])])

    def until_given_up() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            supervisor.tend()
            time.sleep(0.02)

    with pytest.raises(HourcastError) as caught:
        until_given_up()
    assert str(caught.value) == (
        f"broken ends again and again (last with 7); its log says why: {tmp_path / 'broken.log'}"
    )


@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_that_hangs_is_killed(
    tmp_path: Path, supervisor: Supervisor, lines: list[str], stopped: bool
) -> None:
    """A child that ignores SIGTERM, or is stopped by SIGSTOP, does not outlive the end."""
    supervisor.start([Component("stubborn", [sys.executable, "-c", _STUBBORN])])
    assert wait_until(lambda: "up" in (tmp_path / "stubborn.log").read_text(), 10)
    pid = supervisor.processes()["stubborn"]
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    supervisor.end(0.3)
    assert not psutil.pid_exists(pid)
    assert "which did not end within 0.3 s" in lines[0]


def test_what_an_earlier_run_left_is_found_by_its_mark(tmp_path: Path) -> None:
    """Processes of the same state folder are found by their environment, those of another are not."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ | {MARK: str(tmp_path)}
    )
    assert wait_until(lambda: [p.pid for p in leftovers(str(tmp_path))] == [process.pid], 10)
    assert leftovers(str(tmp_path / "other")) == []
    end_all(leftovers(str(tmp_path)), 5)
    assert not psutil.pid_exists(process.pid)
    process.wait(5)
