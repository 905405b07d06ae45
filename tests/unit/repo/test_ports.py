"""The ports that tests and benches are given."""

import subprocess
import sys

from tests.ports import find_port


def test_no_port_is_given_twice() -> None:
    """A server is started on a port some time after it was chosen: until then it must not go to another."""
    ports = [find_port() for _ in range(450)]
    assert len(set(ports)) == len(ports)


def test_runs_side_by_side_are_given_different_ports() -> None:
    """The two halves of `make test-all` run at once."""
    ask = "from tests.ports import find_port; print([find_port() for _ in range(250)], flush=True); input()"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        lists = [run.stdout.readline() for run in runs if run.stdout]
    finally:
        for run in runs:
            run.communicate("\n", timeout=30)
    first, second = ({int(port) for port in line.strip("[]\n").split(",")} for line in lists)
    assert len(first) == len(second) == 250
    assert not first & second
