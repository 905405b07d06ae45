"""Settings come from the environment, and errors name what is wrong."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from hourcast.errors import ConfigurationError
from hourcast.settings import RUNNING_ENV, CoreSettings, StreamSettings, with_password


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
        ("HOURCAST_SERIES", "BTC", "HOURCAST_SERIES: Expecting value: line 1 column 1 (char 0); write it as JSON"),
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


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.sampled_from(["u", "u:old"]))
def test_a_password_gets_into_the_url_whatever_characters_it_has(password: str, account: str) -> None:
    """SQLAlchemy reads the same password, account, host and database back; one in the URL gives way."""
    text = with_password(SecretStr(f"mysql+pymysql://{account}@h:3306/d"), SecretStr(password), "X")
    url = sa.make_url(text)
    assert (url.password, url.username, url.host, url.port, url.database) == (password, "u", "h", 3306, "d")


def test_a_password_without_an_account_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named, the form is shown, and the password is not."""
    monkeypatch.setenv("HOURCAST_DATABASE_URL", "mysql+pymysql://h/d")
    monkeypatch.setenv("HOURCAST_DATABASE_PASSWORD", "hunter2")
    settings = CoreSettings.load()
    assert "hunter2" not in repr(settings)
    with pytest.raises(ConfigurationError) as caught:
        _ = settings.resolved_database_url
    assert str(caught.value) == (
        "HOURCAST_DATABASE_URL names no account for the password that is set beside it; "
        "write it as mysql+pymysql://user@host:3306/database"
    )


def test_sqlite_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that is set for all services leaves a SQLite store as it is."""
    monkeypatch.setenv("HOURCAST_DATABASE_PASSWORD", "x")
    monkeypatch.setenv("HOURCAST_DATABASE_URL", "sqlite:////tmp/a.db")
    assert CoreSettings.load().resolved_database_url == "sqlite:////tmp/a.db"


@pytest.mark.parametrize(
    ("told", "series"),
    [
        ("none", ()), ("[]", ()), ("QQQ", ("QQQ",)), ("QQQ, ^VIX", ("QQQ", "^VIX")), ('["^VIX"]', ("^VIX",)), ("", ("QQQ",)),
    ],
)  # fmt: skip
def test_the_series_that_models_look_at_are_words_or_json(
    monkeypatch: pytest.MonkeyPatch, told: str, series: tuple[str, ...]
) -> None:
    """As a person writes them; `none` is a model without exogenous series."""
    monkeypatch.setenv("HOURCAST_FEATURE_SERIES", told)
    assert StreamSettings.load().feature_series == series


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("[QQQ", 'HOURCAST_FEATURE_SERIES: Value error, this is no JSON; write it as A,B or as ["A", "B"] (given: \'[QQQ\')'),
        ("SPY", "HOURCAST_SERIES: Value error, feature series ['SPY'] are not among the exogenous series ['QQQ', '^VIX', 'GC=F'] (given: "),
    ],
)  # fmt: skip
def test_series_that_there_are_not_are_named(
    monkeypatch: pytest.MonkeyPatch, told: str, message: str
) -> None:
    """A sentence and no traceback."""
    monkeypatch.setenv("HOURCAST_FEATURE_SERIES", told)
    with pytest.raises(ConfigurationError) as caught:
        StreamSettings.load()
    assert str(caught.value).startswith(message)


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")))
def test_no_text_of_a_setting_is_a_traceback(told: str) -> None:
    """Settings, or an error that names the setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOURCAST_FEATURE_SERIES", told)
        patch.setenv("HOURCAST_SERIES", told)
        try:
            StreamSettings.load()
        except ConfigurationError as error:
            assert "HOURCAST_" in str(error)  # noqa: PT017  # most texts raise, and one or two do not
