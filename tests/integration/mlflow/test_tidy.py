"""`hourcast tidy` with a real registry, a real bucket and a real store: what is old goes, and is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from hourcast.bucket import manifest_key, open_bucket, package_key
from hourcast.contracts import PackageManifest
from hourcast.decisions import Decision
from hourcast.errors import UnavailableError
from hourcast.store import Store, open_store
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.tidying import tidy_once
from tests.servers import S3

pytestmark = pytest.mark.integration

_LATER = timedelta(days=100)
_models = iter(range(1, 1000))


class _Ground:
    """A model with versions and packages, none of them older than this test."""

    def __init__(self, url: str, s3: S3, store_url: str) -> None:
        self.settings = MlflowSettings.load(
            mlflow_url=url, database_url=store_url, bucket_url=s3.url, s3_endpoint_url=s3.endpoint,
            model_name=f"tidied-{next(_models)}",
        )  # fmt: skip
        self.client = MlflowClient(url, url)
        self.model = self.settings.model_name
        self.bucket = open_bucket(self.settings.resolved_bucket_url, s3.endpoint)
        self.client.create_registered_model(self.model)
        self.experiment = self.client.create_experiment(self.model)

    def register(
        self, folder: Path, gate: str = "passed", kind: str = "ensemble", like: int | None = None
    ) -> int:
        """A version with files, packaged; `like` another one shares its run and model."""
        if like is None:
            run = self.client.create_run(self.experiment).info.run_id
            file = folder / "figures.txt"
            file.write_text("figures")
            self.client.log_artifact(run, str(file))
            model = self.client.create_logged_model(self.experiment, name="forecaster", source_run_id=run)
            self.client.log_model_artifacts(model.model_id, str(folder))
            self.client.finalize_logged_model(model.model_id, "READY")
            model_id = model.model_id
        else:
            found = self.client.get_model_version(self.model, str(like))
            run, model_id = found.run_id, found.source.removeprefix("models:/")
        made = self.client.create_model_version(
            self.model, f"models:/{model_id}", run, model_id=model_id, tags={"gate": gate, "kind": kind}
        )
        number = int(made.version)
        example = Path("tests/kept/0.1.0/bentos/hourcast/1.json").read_text()
        manifest = PackageManifest.model_validate_json(example)
        manifest = manifest.model_copy(update={"version": number, "created_at": datetime.now(UTC)})
        self.bucket.put(package_key(self.model, number), b"package")
        self.bucket.put(manifest_key(self.model, number), manifest.model_dump_json().encode())
        return number

    def versions(self) -> list[int]:
        return sorted(int(v.version) for v in self.client.search_model_versions(f"name='{self.model}'"))

    def packages(self) -> list[int]:
        names = [key.rsplit("/", 1)[1] for key in self.bucket.keys(f"bentos/{self.model}/")]
        assert sorted(n.split(".")[0] for n in names if n.endswith(".bento")) == sorted(
            n.split(".")[0] for n in names if n.endswith(".json")
        )
        return sorted(int(n.removesuffix(".json")) for n in names if n.endswith(".json"))

    @contextmanager
    def store(self) -> Iterator[Store]:
        with open_store(self.settings.resolved_database_url) as store:
            store.upgrade()
            yield store

    def tidy(self, **more: Any) -> list[str]:
        said: list[str] = []
        tidy_once(self.settings, said.append, wall=datetime.now(UTC) + _LATER, **more)
        return said


@pytest.fixture
def ground(mlflow_server: str, s3: S3, store_url: str) -> _Ground:
    """A model of its own."""
    return _Ground(mlflow_server, s3, store_url)


def _files(ground: _Ground, version: Any) -> list[str]:
    run = [f.path for f in ground.client.list_artifacts(version.run_id)]
    model = [
        f.path for f in ground.client.list_logged_model_artifacts(version.source.removeprefix("models:/"))
    ]
    return run + model


def test_versions_without_an_alias_go_with_packages_and_files_and_the_rest_stays(
    ground: _Ground, tmp_path: Path
) -> None:
    """Of six: the floor, one that failed, one that shares its run with an aliased one, one pinned, one aliased, one newer than it."""
    floor = ground.register(tmp_path, kind="naive")
    failed = ground.register(tmp_path, gate="failed")
    pinned = ground.register(tmp_path)
    named = ground.register(tmp_path)
    shared = ground.register(tmp_path, like=named)
    ground.client.set_registered_model_alias(ground.model, "20260101", str(shared))
    newer = ground.register(tmp_path)
    now = datetime.now(UTC)
    with ground.store() as store:
        store.decide(Decision(now, "operator", "pinned", ground.model, pinned, None, "mine", now))
        gone = ground.client.get_model_version(ground.model, str(failed))
        kept = ground.client.get_model_version(ground.model, str(named))
        assert len(_files(ground, gone)) == 2
        told = f"versions {failed}, {named}; the packages of versions {failed}, {named}"
        assert ground.tidy(dry_run=True) == [f"would go: {told}"]
        assert ground.versions() == ground.packages() == [floor, failed, pinned, named, shared, newer]
        assert store.events(ground.model, kind="tidied") == []
        assert ground.tidy() == [f"gone, because it was older than it is kept: {told}"]
        assert ground.versions() == ground.packages() == [floor, pinned, shared, newer]
        assert ground.client.get_run(gone.run_id).info.lifecycle_stage == "deleted"
        assert [f.path for f in ground.client.list_artifacts(gone.run_id)] == []
        assert len(_files(ground, kept)) == 2
        (event,) = store.events(ground.model, kind="tidied")
        assert (event.actor, event.version, event.reason) == ("tidy", None, f"older than it is kept: {told}")
        assert event.evidence == {"rows": {}, "versions": [failed, named], "packages": [failed, named]}
        assert ground.tidy() == ["nothing is older than it is kept"]
        assert len(store.events(ground.model, kind="tidied")) == 1


def test_what_somebody_asks_for_after_the_look_stays(ground: _Ground, tmp_path: Path) -> None:
    """An alias that comes while the job is at work, and a pin: neither version loses anything, and both are told."""
    ground.register(tmp_path, kind="naive")
    named, pinned, failed = (ground.register(tmp_path, gate="failed") for _ in range(3))
    ground.client.set_registered_model_alias(ground.model, "20260101", str(ground.register(tmp_path)))
    now = datetime.now(UTC)
    done: list[str] = []

    def ask(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        # What the job tells is stored before it removes anything; then it looks again.
        if not done and sql.startswith("INSERT INTO events"):
            done.append("named")
            ground.client.set_registered_model_alias(ground.model, "20260102", str(named))
        elif done == ["named"] and "FROM standing" in sql:
            done.append("pinned")
            with ground.store() as store:
                store.decide(Decision(now, "operator", "pinned", ground.model, pinned, None, "mine", now))

    with ground.store():
        sa.event.listen(sa.Engine, "before_cursor_execute", ask)
        try:
            said = ground.tidy()
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", ask)
    told = f"versions {named}, {pinned}, {failed}; the packages of versions {named}, {pinned}, {failed}"
    assert said == [
        f"gone, because it was older than it is kept: {told}",
        f"kept after all, since somebody has asked for it: versions {named}, {pinned}",
    ]
    assert {named, pinned} <= set(ground.versions())
    assert {named, pinned} <= set(ground.packages())
    assert failed not in ground.versions() + ground.packages()


def test_with_mlflow_away_the_tables_are_tidied_and_the_rest_is_told(ground: _Ground, tmp_path: Path) -> None:
    """What does not answer waits; the next run does it."""
    ground.register(tmp_path, kind="naive")
    failed = ground.register(tmp_path, gate="failed")
    ground.client.set_registered_model_alias(ground.model, "20260101", str(ground.register(tmp_path)))
    away = "http://127.0.0.1:9"
    whole = ground.settings
    with ground.store() as store:
        old = datetime.now(UTC) - timedelta(days=300)
        for moment in (old, datetime.now(UTC)):
            run = store.begin_ingest("B", "s", moment)
            store.update_ingest(run, status="complete", ended_at=moment)
        ground.settings = whole.model_copy(update={"mlflow_url": away})
        with pytest.raises(
            UnavailableError, match=rf"^not everything was tidied: versions: MLflow at {away} does not "
        ):
            ground.tidy()
        assert len(store.ingest_runs()) == 1
        assert [e.evidence["rows"] for e in store.events(ground.model, kind="tidied")] == [{"ingest_runs": 1}]
        ground.settings = whole
        assert ground.tidy() == [
            f"gone, because it was older than it is kept: version {failed}; the package of version {failed}"
        ]


def test_a_run_that_was_cut_short_is_gone_on_with(
    ground: _Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry dies after a version's files have gone: the version is found again, and goes."""
    ground.register(tmp_path, kind="naive")
    failed = ground.register(tmp_path, gate="failed")
    ground.client.set_registered_model_alias(ground.model, "20260101", str(ground.register(tmp_path)))
    with ground.store():
        real = MlflowClient.delete_model_version

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(MlflowClient, "delete_model_version", cut)
        with pytest.raises(KeyboardInterrupt):
            ground.tidy()
        assert failed in ground.versions()
        monkeypatch.setattr(MlflowClient, "delete_model_version", real)
        assert ground.tidy() == [f"gone, because it was older than it is kept: version {failed}"]
        assert failed not in ground.versions() + ground.packages()


def test_spans_that_would_blind_what_reads_them_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live figures look back 60 days, a training by default a year."""
    from hourcast.errors import ConfigurationError

    for name, value, least in (("FORECASTS", "30", 90), ("RECORDS", "300", 731), ("VERSIONS", "1", 7)):
        monkeypatch.setenv(f"HOURCAST_{name}_KEEP_DAYS", value)
        with pytest.raises(ConfigurationError) as caught:
            MlflowSettings.load()
        wanted = (
            f"HOURCAST_{name}_KEEP_DAYS: Input should be greater than or equal to {least} (given: '{value}')"
        )
        assert wanted in str(caught.value)
        monkeypatch.delenv(f"HOURCAST_{name}_KEEP_DAYS")
