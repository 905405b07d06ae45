"""`hourcast report`: the page of the walk that the store keeps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hourcast.errors import DataError, UnavailableError
from hourcast.store import Store, open_store
from hourcast_trainer.lab.cli import report
from hourcast_trainer.lab.reporting import kept_comparison
from hourcast_trainer.lab.walk import walk_id
from hourcast_trainer.lab.walk.rows import WalkRows
from hourcast_trainer.settings import TrainerSettings
from tests.walks import keep, scaled, synthetic_walk

_WEEK = 7 * 24


@pytest.fixture(scope="module")
def walk() -> dict[str, WalkRows]:
    """Six weeks of the reference, of a model that knows the truth, and three of one that was stopped."""
    made = synthetic_walk(6 * _WEEK)
    exact = scaled(made["exact"], "volatility", 1.0)
    stopped = replace(exact, kind="boosting", **_part(exact, 3 * _WEEK))
    return {"naive": made["naive"], "volatility": exact, "boosting": stopped}


def _part(rows: WalkRows, n: int) -> dict[str, object]:
    return {name: getattr(rows, name)[:n] for name in ("origin", "last_close", "actual", "returns", "raw")}


@pytest.fixture
def kept(tmp_path: Path, walk: dict[str, WalkRows], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that holds it, named by the settings."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("HOURCAST_DATABASE_URL", url)
    monkeypatch.setenv("HOURCAST_CLOCK", "2024-06-01T00:00Z")
    store = open_store(url)
    store.upgrade()
    keep(store, TrainerSettings(), walk)
    yield store
    store.close()


def _report(folder: Path, *options: str) -> tuple[Result, str]:
    out = folder / "page.html"
    result = CliRunner().invoke(report, ["--no-mlflow", "--out", str(out), *options], catch_exceptions=False)
    return result, out.read_text("utf-8")


def test_the_page_is_written_and_kept(tmp_path: Path, kept: Store) -> None:
    """Without options it is of the whole walk: a file, the same page in the store, and the figures in words."""
    result, page = _report(tmp_path)
    found = kept.newest_report("hourcast")
    assert found is not None
    assert (f"{found[0]:%Y-%m-%dT%H:%M%z}", found[1]) == ("2024-06-01T00:00+0000", page)
    lines = result.output.splitlines()
    assert lines[0] == "boosting is left out: it has 3 of 6 folds"
    assert lines[1].endswith("MB, kept in the store as hourcast's report")
    assert lines[2].startswith("volatility, whole span, 1,008 hours: pinball loss -")
    assert len(lines) == 3
    assert "hourcast report --from 2024-03-04 --to 2024-04-15 --every 1w --kinds volatility</code>" in page
    assert "volatility: 6 folds, 1,008 forecasts" in page
    assert "rate 0.05" in page


def test_the_page_says_again_what_it_was_told(tmp_path: Path, kept: Store) -> None:
    """Options choose span and kinds, tell the untouched hours apart, and stand in the command that the page names."""
    options = [
        "--to",
        "2024-03-25",
        "--kinds",
        "volatility,boosting",
        "--untouched-from",
        "2024-03-18",
        "--headline",
        "boosting",
    ]
    result, page = _report(tmp_path, *options, "--note", "Tried in vain: <moon phases>.")
    spans = [line.split(":")[0] for line in result.output.splitlines()[1:]]
    assert spans == [
        "boosting, whole span, 504 hours",
        "boosting, chosen on span, 336 hours",
        "boosting, untouched span, 168 hours",
    ]
    told = "--from 2024-03-04 --to 2024-03-25 --every 1w --kinds volatility,boosting --untouched-from 2024-03-18 --headline boosting"
    assert f"hourcast report {told}</code>" in page
    assert "Tried in vain: &lt;moon phases&gt;." in page


def test_a_walk_that_is_not_kept_is_asked_for(kept: Store) -> None:
    """What is missing is named, with the command that makes it."""
    with pytest.raises(UnavailableError) as none:
        kept_comparison(TrainerSettings(), kept, 14)
    assert str(none.value) == (
        "no walk of hourcast with a refit every 14 days is kept with these settings; run `hourcast compare` first"
    )
    job, _ = kept_comparison(TrainerSettings(), kept, 7, names=["boosting"])
    with pytest.raises(DataError) as part:
        job.stored["boosting"]
    assert (
        str(part.value)
        == "the walk has no rows of boosting from 2024-03-25 to 2024-04-01; run `hourcast compare`"
    )


def test_a_walk_with_a_hole_is_no_whole_one(kept: Store) -> None:
    """Where the reference itself lacks a week, the span is not reported as if it were there."""
    settings = TrainerSettings()
    folds = kept.walk_folds(settings.model_name, walk_id(settings, 7), "naive")
    kept.save_walk_folds([replace(folds[2], end=folds[2].start)])
    with pytest.raises(UnavailableError) as hole:
        kept_comparison(settings, kept, 7)
    assert str(hole.value) == (
        "the walk is kept in part: naive has 5 of 6 folds from 2024-03-04 to 2024-04-15; run `hourcast compare` over that span"
    )


def test_what_a_back_test_left_is_no_kind_of_the_page(kept: Store, walk: dict[str, WalkRows]) -> None:
    """Back-test and comparison keep their weeks in one walk; the page is of the kinds that were compared."""
    keep(kept, TrainerSettings(), {"production": replace(walk["volatility"], kind="production")})
    job, lacking = kept_comparison(TrainerSettings(), kept, 7)
    assert [variant.name for variant in job.variants] == ["naive", "volatility"]
    assert list(lacking) == ["boosting"]
