"""An MLflow that exists already may ask who is there."""

import pytest

from hourcast.errors import UnavailableError
from hourcast_controller.policy import RegistryState
from hourcast_controller.registry import Registry


def test_the_controller_says_who_it_is(guarded_mlflow: str) -> None:
    """MLFLOW_TRACKING_USERNAME and _PASSWORD reach the server, whatever characters they have."""
    with Registry(guarded_mlflow, "hourcast") as registry:
        assert registry.read() == RegistryState({}, {})


def test_without_a_name_the_controller_is_turned_away(
    guarded_mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read then, which is an outage and no empty registry."""
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    with Registry(guarded_mlflow, "hourcast") as registry, pytest.raises(UnavailableError):
        registry.read()
