"""What the setup decides before it touches anything."""

import fnmatch

import pytest

from hourcast.errors import ConfigurationError, RefusedError
from hourcast_mlflow.migration import State, decide
from hourcast_mlflow.server import allowed_hosts, server_environment
from hourcast_mlflow.settings import MlflowSettings

_KNOWN = frozenset({"alembic_version", "experiments", "runs"})
_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def _state(revision: str | None, tables: str, rows: str = "", complete: bool = False) -> State:
    return State(revision, frozenset(tables.split()), frozenset(rows.split()), complete)


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (_state(None, ""), "make"),
        (_state(None, "theirs"), "make"),
        (_state(None, "experiments"), "mend"),
        (_state(None, "alembic_version experiments"), "mend"),
        (_state("old", "alembic_version experiments runs", "alembic_version"), "mend"),
        (_state("old", "alembic_version experiments runs", "alembic_version workspaces"), "mend"),
        (_state("old", "alembic_version experiments runs", "alembic_version experiments"), "upgrade"),
        (_state("old", "alembic_version experiments runs", "alembic_version runs"), "upgrade"),
        (_state("old", "alembic_version experiments runs", "alembic_version", complete=True), "upgrade"),
        (_state("new", "alembic_version experiments runs", "alembic_version"), "done"),
        (_state("new", "alembic_version experiments runs", "alembic_version runs", complete=True), "done"),
    ],
)
def test_only_a_first_migration_without_a_row_is_ever_dropped(state: State, step: str) -> None:
    """A row of anybody, or having been whole once, keeps every table."""
    assert decide(state, "new", _KNOWN) == step


def test_a_database_of_something_else_is_refused() -> None:
    """Rows in tables that are not MLflow's, and none of MLflow's tables."""
    with pytest.raises(RefusedError, match="tables that are not MLflow's \\(theirs\\)"):
        decide(_state(None, "theirs", "theirs"), "new", _KNOWN)


def test_hosts_are_allowed_with_and_without_a_port() -> None:
    """As MLflow compares them: exactly, or as a pattern where there is a `*`."""
    entries = allowed_hosts(("mlflow", "mlflow.example:80", "*.svc")).split(",")

    def allowed(host: str) -> bool:
        return any(fnmatch.fnmatch(host, e) if "*" in e else host == e for e in entries)

    for host in (
        "localhost",
        "localhost:5000",
        "127.0.0.1:9",
        "[::1]:5000",
        "mlflow",
        "mlflow:5000",
        "mlflow.example:80",
        "a.svc:1",
    ):
        assert allowed(host), host
    for host in ("mlflow.example", "mlflow.example:81", "evil", "10.0.0.1", "1:5000", ""):
        assert not allowed(host), host


@pytest.mark.parametrize("value", ['["a", "b:80"]', "a,b:80", " a , b:80 ,"])
def test_hosts_come_as_json_or_with_commas(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Both forms mean the same."""
    monkeypatch.setenv("HOURCAST_MLFLOW_ALLOWED_HOSTS", value)
    assert MlflowSettings.load().mlflow_allowed_hosts == ("a", "b:80")


@pytest.mark.parametrize("key", ["", "short", "!" * 44, _KEY[:-4]])
def test_a_key_that_mlflow_could_not_use_is_refused(key: str) -> None:
    """Before the server starts, and with the command that makes one."""
    with pytest.raises(
        ConfigurationError, match=r"is not 32 bytes in base64; .* `head -c 32 /dev/urandom \| base64`"
    ):
        server_environment(MlflowSettings.load(), {"MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": key})


def test_the_key_is_one_that_mlflow_takes() -> None:
    """Plain base64 with `+` and `/` is what Fernet reads too."""
    import base64

    from cryptography.fernet import Fernet

    key = base64.b64encode(bytes([0xFB, 0xFF] * 16)).decode()
    assert set("+/") & set(key)
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"x")) == b"x"
