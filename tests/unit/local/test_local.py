"""Ports, spans, children: what `hourcast up` is made of."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from hourcast.errors import ConfigurationError
from hourcast.failing import Failing, read_failing, write_failing
from hourcast_local.ports import Chosen, Port, choose
from hourcast_local.preflight import Preflight, sentence
from hourcast_local.processes import MARK, end_all, leftovers, wait_until
from hourcast_local.replay import span_of
from hourcast_local.supervisor import Component, Supervisor

_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def test_a_taken_port_that_was_asked_for_is_named_with_who_has_it_and_what_to_do() -> None:
    """Port, purpose, holder and the setting that moves it, before anything starts; it never moves by itself."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            choose([Port("HOURCAST_API_PORT", "the API", port, asked=True)])
        name = psutil.Process().name()
        told = re.fullmatch(
            rf"port {port} for the API is taken by {re.escape(name)} \(process {os.getpid()}\): stop that, "
            r"or choose another with HOURCAST_API_PORT=(\d+)",
            str(caught.value),
        )
        assert told is not None
        assert port < int(told[1]) <= port + 100
    assert choose([Port("HOURCAST_API_PORT", "the API", port, asked=True)]) == {
        "HOURCAST_API_PORT": Chosen(port)
    }


def test_a_usual_port_that_is_taken_moves_to_the_next_free_one_and_says_so() -> None:
    """Two parts never move to the same one, nor to the usual one of another."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        chosen = choose(
            [
                Port("HOURCAST_API_PORT", "the API", port, asked=False),
                Port("HOURCAST_NODE_PORT", "the node", port + 1, asked=False),
                Port("HOURCAST_VIZ_PORT", "the dashboard", port, asked=False),
            ]
        )
    numbers = [c.number for c in chosen.values()]
    assert len({*numbers, port}) == 4
    assert chosen["HOURCAST_API_PORT"].number not in (port, port + 1)
    assert (
        chosen["HOURCAST_API_PORT"].moved
        == f"{port} is taken by {psutil.Process().name()} (process {os.getpid()})"
    )


def test_a_port_at_which_a_server_of_all_addresses_answers_is_taken() -> None:
    """On macOS a bind beside such a server succeeds (AirPlay on 5000); its answer tells."""
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        port = held.getsockname()[1]
        assert (
            choose([Port("HOURCAST_MLFLOW_PORT", "MLflow", port, asked=False)])["HOURCAST_MLFLOW_PORT"].number
            != port
        )


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

    assert wait_until(again, 60, 0.05)
    assert lines == ["sleeper ended with -9 and is started again"]
    supervisor.end(5)
    assert supervisor.processes() == {}


def test_a_child_that_dies_at_once_says_why(supervisor: Supervisor, lines: list[str]) -> None:
    """Its last line of this life, not of an earlier one, and none for a child that was killed."""
    supervisor.log_of("broken").write_text("of an earlier run\n")
    code = "import sys; print('OSError: no libx.so', file=sys.stderr); raise SystemExit(7)"
    supervisor.start([Component("broken", [sys.executable, "-c", code])])
    assert wait_until(lambda: supervisor.tend() or bool(lines), 60, 0.02)  # type: ignore[func-returns-value]
    assert lines == ["broken ended with 7 and is started again: OSError: no libx.so"]
    supervisor.end(5)


def test_a_child_that_cannot_live_is_failing_and_the_others_go_on(
    supervisor: Supervisor, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After six quick deaths it is tried once a minute, that is said once with the reason, and forgotten when it lives."""
    monkeypatch.setattr("hourcast_local.supervisor._FAILING_PAUSE_S", 0.05)
    monkeypatch.setattr("hourcast_local.supervisor._QUICK_S", 0.8)
    log = supervisor.log_of("broken")
    mended = log.with_name("mended")
    code = f"import pathlib, sys, time; pathlib.Path({str(mended)!r}).exists() and time.sleep(600); sys.exit('no bars')"
    sleeper = Component("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
    supervisor.start([Component("broken", [sys.executable, "-c", code]), sleeper])
    other = supervisor.processes()["sleeper"]

    def tended(condition: Callable[[], bool]) -> bool:
        return wait_until(lambda: supervisor.tend() or condition(), 60, 0.02)  # type: ignore[func-returns-value]

    assert tended(lambda: bool(supervisor.failing()))
    (failing,) = supervisor.failing()
    assert (failing.part, failing.reason) == ("broken", "no bars")
    assert failing.since.tzinfo is not None
    told = f"broken ends again and again and is tried once a minute from now on; all else goes on: no bars ({log})"
    assert lines[-1] == told
    assert supervisor.processes()["sleeper"] == other
    mended.touch()
    assert tended(lambda: not supervisor.failing())
    assert lines[lines.index(told) + 1 :] == ["broken works again"]
    supervisor.end(5)


def test_what_fails_is_left_word_of_in_the_state_folder(tmp_path: Path) -> None:
    """Written and read as itself; nothing where nobody wrote, or where what is there cannot be read."""
    failing = (Failing("trainer", datetime(2025, 3, 1, 5, 7, tzinfo=UTC), "OSError: libgomp.so.1"),)
    assert read_failing(tmp_path) == ()
    write_failing(tmp_path, failing)
    assert read_failing(tmp_path) == failing
    (tmp_path / "failing.json").write_text("[{")
    assert read_failing(tmp_path) == ()
    write_failing(tmp_path, ())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "programs", "told"),
    [
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            {"apt-get", "sudo"},
            "LightGBM cannot load libgomp.so.1: `sudo apt-get install libgomp1` mends it",
        ),
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            {"dnf"},
            "LightGBM cannot load libgomp.so.1: `dnf install libgomp` mends it",
        ),
        (
            "dlopen(/x/lib_lightgbm.dylib, 0x0006): Library not loaded: @rpath/libomp.dylib\n  Referenced from: /x",
            {"brew", "sudo"},
            "LightGBM cannot load libomp.dylib: `brew install libomp` mends it",
        ),
        (
            "libfoo.so.3: cannot open shared object file: No such file or directory",
            {"apt-get"},
            "LightGBM cannot load libfoo.so.3: install the package of your system that has it",
        ),
        ("invalid ELF header", set(), "LightGBM cannot be loaded: invalid ELF header"),
    ],
)
def test_a_library_that_the_system_lacks_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, error: str, programs: set[str], told: str
) -> None:
    """By the program that installs packages here."""
    monkeypatch.setattr("shutil.which", lambda name: name if name in programs else None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert sentence("LightGBM", error) == told


def test_what_cannot_be_loaded_stops_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check runs in a process of its own: a package whose library lacks another is found in it."""
    Preflight().check()
    package = tmp_path / "lightgbm"
    (package / "lib").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "lib" / "lib_lightgbm.so").write_text("no library at all")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"LightGBM, which the trainer needs, cannot be loaded: "):
        Preflight().check()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_child_that_hangs_is_killed(
    tmp_path: Path, supervisor: Supervisor, lines: list[str], stopped: bool
) -> None:
    """A child that ignores SIGTERM, or is stopped by SIGSTOP, does not outlive the end."""
    supervisor.start([Component("stubborn", [sys.executable, "-c", _STUBBORN])])
    assert wait_until(lambda: "up" in (tmp_path / "stubborn.log").read_text(), 60)
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
    assert wait_until(lambda: [p.pid for p in leftovers(str(tmp_path))] == [process.pid], 60)
    assert leftovers(str(tmp_path / "other")) == []
    end_all(leftovers(str(tmp_path)), 5)
    assert not psutil.pid_exists(process.pid)
    process.wait(30)
