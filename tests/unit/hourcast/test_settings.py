"""Settings come from the environment, and errors name what is wrong."""

from pathlib import Path

import pytest

from hourcast.errors import ConfigurationError
from hourcast.settings import RUNNING_ENV, CoreSettings


def test_the_environment_wins_over_what_a_running_up_has_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command finds clock and addresses of the `hourcast up` on its state folder, unless it is told others."""
    (tmp_path / RUNNING_ENV).write_text(
        "HOURCAST_CLOCK='store'\nHOURCAST_MLFLOW_URL='http://127.0.0.1:5999'\n"
    )
    monkeypatch.setenv("HOURCAST_STATE_DIR", str(tmp_path))
    assert CoreSettings.load().clock == "store"
    monkeypatch.setenv("HOURCAST_CLOCK", "2025-01-01")
    settings = CoreSettings.load()
    assert (settings.clock, settings.mlflow_url) == ("2025-01-01", "http://127.0.0.1:5999")
    assert CoreSettings.load(state_dir=tmp_path / "other").mlflow_url == "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HOURCAST_LOG_LEVEL", "LOUD", "HOURCAST_LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR' (given: 'LOUD')"),
        ("HOURCAST_SERIES", "[]", "HOURCAST_SERIES: Value error, exactly one series must have role `target`, but 0 have: [] (given: "),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The setting, what is allowed, and what was given."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        CoreSettings.load()
    assert str(caught.value).startswith(message)


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in an error nor in the settings' own text."""
    monkeypatch.setenv("HOURCAST_DATABASE_URL", "mysql+pymysql://u:hunter2@h/d")
    assert "hunter2" not in repr(CoreSettings.load())
    monkeypatch.setenv("HOURCAST_MODEL_NAME", "no good")
    with pytest.raises(ConfigurationError) as caught:
        CoreSettings.load()
    assert "hunter2" not in str(caught.value)
