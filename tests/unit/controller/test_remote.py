"""Which pod a command from a laptop runs in, and what it says when there is none."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from hourcast.errors import ConfigurationError, UnavailableError
from hourcast_controller import cli, remote


def _pod(name: str, ready: bool = True, ending: bool = False) -> dict[str, Any]:
    meta = {"name": name, **({"deletionTimestamp": "x"} if ending else {})}
    status = "True" if ready else "False"
    return {"metadata": meta, "status": {"conditions": [{"type": "Ready", "status": status}]}}


def test_a_ready_controller_is_chosen() -> None:
    """Not one that is starting, nor one that ends."""
    pods = [_pod("a", ending=True), _pod("b", ready=False), _pod("d"), _pod("c")]
    assert remote.choose(pods, "hourcast", "ns") == "c"


def test_no_such_release_is_told() -> None:
    """The sentence names release and namespace, and how to find them."""
    with pytest.raises(ConfigurationError) as caught:
        remote.choose([], "other", "ns")
    assert str(caught.value) == (
        "there is no Hourcast release 'other' in namespace 'ns'; name it with --release and --namespace "
        "(`helm list -A` shows them)"
    )


def test_no_ready_controller_is_told() -> None:
    """With the pods that are there and where to look."""
    with pytest.raises(UnavailableError) as caught:
        remote.choose([_pod("a", ready=False)], "hourcast", "ns")
    assert str(caught.value) == (
        "no controller of release 'hourcast' in namespace 'ns' is ready (a); see `kubectl -n ns describe pod a`"
    )


def test_a_missing_kubeconfig_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and what to set."""
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = CliRunner().invoke(cli.unpin, ["-n", "ns"])
    assert isinstance(result.exception, ConfigurationError)
    assert str(result.exception) == (
        "no cluster can be reached: Invalid kube-config file. No configuration found; "
        "set KUBECONFIG, or name a context that it has with --context"
    )


@pytest.mark.parametrize(
    ("command", "words", "sent"),
    [
        (cli.status, ["-n", "x"], ["hourcast", "status", "--width", "90"]),
        (cli.status, ["-n", "x", "--json"], ["hourcast", "status", "--json"]),
        (cli.history, ["--limit", "5", "--context", "c"], ["hourcast", "history", "--limit", "5", "--width", "90"]),
        (cli.pin, ["7", "--release", "r"], ["hourcast", "pin", "7"]),
        (cli.release, ["--version", "3", "-n", "x", "--json"], ["hourcast", "release", "--version", "3", "--json"]),
    ],
)  # fmt: skip
def test_the_very_command_is_sent_without_what_says_where(
    command: click.Command, words: list[str], sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments and options stay, in a form that the pod's command takes; its exit code is ours."""
    told: list[list[str]] = []

    def run(command: list[str], **_where: object) -> int:
        told.append(command)
        return 6

    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(remote, "run", run)
    assert CliRunner().invoke(command, words, prog_name=str(command.name)).exit_code == 6
    assert told == [sent]
