"""`hourcast tidy`: what is older than it is kept goes, and is told before it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hourcast.bucket import Bucket, manifest_key, open_bucket, package_key
from hourcast.clock import clock_from
from hourcast.contracts import PackageManifest
from hourcast.decisions import Standing
from hourcast.errors import HourcastError, UnavailableError
from hourcast.store import RETENTION, Event, Store, open_store
from hourcast_mlflow.settings import MlflowSettings
from hourcast_mlflow.superfluous import Registered, superfluous_packages, superfluous_versions

__all__ = ["tidy_daily", "tidy_once"]

Say = Callable[[str], None]
T = TypeVar("T")
_FIRST_S, _DAY_S = 300.0, 86_400.0
_PAGE = 200


@dataclass(slots=True)
class _Going:
    rows: dict[str, int] = field(default_factory=dict)
    versions: list[Registered] = field(default_factory=list)
    packages: list[int] = field(default_factory=list)

    def told(self) -> str:
        parts = [f"{count} row{'s' * (count != 1)} of {table}" for table, count in self.rows.items()]
        for one, many, numbers in (
            ("version", "versions", [v.version for v in self.versions]),
            ("the package of version", "the packages of versions", self.packages),
        ):
            if numbers:
                parts.append(_named(one, many, numbers))
        return "; ".join(parts)

    def evidence(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "versions": [v.version for v in self.versions],
            "packages": self.packages,
        }


def _named(one: str, many: str, numbers: Sequence[int]) -> str:
    return f"{one if len(numbers) == 1 else many} {', '.join(map(str, numbers))}"


def tidy_daily(say: Say) -> None:
    """Tidy once a day until the process ends, each time in a process of its own, whose memory goes with it."""
    time.sleep(_FIRST_S)
    while True:
        done = subprocess.run([sys.executable, "-m", "hourcast.cli", "tidy"], check=False)
        if done.returncode:
            say(f"tidying ended with {done.returncode}; it is tried again tomorrow")
        time.sleep(_DAY_S)


def tidy_once(
    settings: MlflowSettings, say: Say, *, dry_run: bool = False, wall: datetime | None = None
) -> None:
    """Find what may go, tell it in an event, and remove it. What cannot be reached waits for the next day.

    Args:
        settings: where all of it is, and how long it is kept.
        say: told what went.
        dry_run: only say it.
        wall: the present moment by the wall; default: now.

    Raises:
        UnavailableError: when the store cannot be read, or anything else did not answer; the rest is done then.
    """
    missed: list[str] = []
    with open_store(settings.resolved_database_url) as store:
        wall = wall or datetime.now(UTC)
        # A replay's present lies before the wall's, and nothing of it is old yet.
        now = min(wall, clock_from(settings.clock, store.clock).now())
        going = _Going(rows=_rows(settings, store, now))
        client, bucket = (
            _client(settings),
            open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url),
        )
        if settings.versions_keep_days is not None:
            before = wall - timedelta(days=settings.versions_keep_days)
            found = _tried(missed, "versions", lambda: _look(settings, store, client, bucket, before))
            if found is not None:
                going.versions, going.packages = found
        told = going.told()
        if dry_run:
            say(f"would go: {told}" if told else "nothing is older than it is kept")
        elif told:
            reason = f"older than it is kept: {told}"
            store.add_event(
                Event(now, "tidy", "tidied", settings.model_name, None, None, reason, wall, going.evidence())
            )
            for table in going.rows:
                _tried(missed, table, lambda table=table: store.forget(table, _before(settings, table, now)))  # type: ignore[misc]
            kept = _tried(missed, "versions", lambda: _remove(settings, store, client, bucket, going))
            say(f"gone, because it was {reason}")
            if kept:
                say(f"kept after all, since somebody has asked for it: {_named('version', 'versions', kept)}")
        else:
            say("nothing is older than it is kept")
    if missed:
        raise UnavailableError(f"not everything was tidied: {'; '.join(missed)}; the next run goes on")


def _tried(missed: list[str], what: str, work: Callable[[], T]) -> T | None:
    try:
        return work()
    except HourcastError as error:
        missed.append(f"{what}: {error}")
        return None


def _before(settings: MlflowSettings, table: str, now: datetime) -> datetime:
    days = getattr(settings, f"{RETENTION[table].keeping}_keep_days")
    return now - timedelta(days=days)


def _rows(settings: MlflowSettings, store: Store, now: datetime) -> dict[str, int]:
    counts = {
        table: store.forget(table, _before(settings, table, now), dry_run=True)
        for table, rule in RETENTION.items()
        if rule.keeping is not None and getattr(settings, f"{rule.keeping}_keep_days") is not None
    }
    return {table: count for table, count in counts.items() if count}


def _client(settings: MlflowSettings) -> Any:
    # Its own patience is minutes long and silent; what is not done today is done tomorrow.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient

    return MlflowClient(settings.mlflow_url, settings.mlflow_url)


def _asked(settings: MlflowSettings, work: Callable[[], T]) -> T:
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        return work()
    except (MlflowException, RequestException) as error:
        text = str(error).splitlines()[0][:200]
        raise UnavailableError(
            f"MLflow at {settings.mlflow_url} does not answer ({text}); check HOURCAST_MLFLOW_URL and that it runs"
        ) from error


def _registered(settings: MlflowSettings, client: Any) -> tuple[list[Registered], Mapping[str, int]]:
    """Every version, and the aliases; both empty where the model is not there yet."""
    from mlflow.exceptions import MlflowException

    def read() -> tuple[list[Registered], Mapping[str, int]]:
        found: list[Registered] = []
        token: str | None = None
        while True:
            page = client.search_model_versions(
                f"name='{settings.model_name}'", max_results=_PAGE, page_token=token
            )
            found += [
                Registered(
                    int(v.version),
                    v.run_id or "",
                    _logged_model(v.source),
                    v.tags.get("kind", "unknown"),
                    v.tags.get("gate", "unknown"),
                    datetime.fromtimestamp(v.creation_timestamp / 1000, UTC),
                )
                for v in page
            ]
            token = page.token
            if not token:
                break
        try:
            aliases = client.get_registered_model(settings.model_name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            aliases = {}
        return found, {alias: int(version) for alias, version in aliases.items()}

    return _asked(settings, read)


def _logged_model(source: str | None) -> str | None:
    """MLflow's logged model that a version was made of; its REST answer names it in the source alone."""
    name = (source or "").removeprefix("models:/")
    return name if name != source and name.startswith("m-") else None


def _packages(settings: MlflowSettings, bucket: Bucket) -> dict[int, datetime]:
    prefix = manifest_key(settings.model_name, 0).removesuffix("0.json")
    out = {}
    for key in bucket.keys(prefix):
        name = key.removeprefix(prefix)
        if name.endswith(".json") and name.removesuffix(".json").isdigit():
            body = bucket.get(key)
            try:
                made_at = PackageManifest.model_validate_json(body or b"").created_at
            except ValueError:
                # Nobody can say how old it is, so it stays.
                continue
            out[int(name.removesuffix(".json"))] = made_at
    return out


def _look(
    settings: MlflowSettings, store: Store, client: Any, bucket: Bucket, before: datetime
) -> tuple[list[Registered], list[int]]:
    versions, aliases = _registered(settings, client)
    standing: Standing = store.standing(settings.model_name)
    packages = _packages(settings, bucket)
    return (
        superfluous_versions(versions, aliases, standing, before),
        superfluous_packages(packages, versions, aliases, standing, before),
    )


def _remove(settings: MlflowSettings, store: Store, client: Any, bucket: Bucket, going: _Going) -> list[int]:
    """Packages, then versions: each one's files before the version itself, so that a run cut short is found again.

    Returns the versions that stay, because somebody has asked for them since.
    """
    if not (going.packages or going.versions):
        return []
    # Somebody may have asked for one since it was looked at.
    every, aliases = _registered(settings, client)
    wanted = set(aliases.values()) | _wanted(store.standing(settings.model_name))
    for version in going.packages:
        if version not in wanted:
            # The manifest says that a package is whole, so it goes first.
            bucket.delete(manifest_key(settings.model_name, version))
            bucket.delete(package_key(settings.model_name, version))
    removed = [v for v in going.versions if v.version not in wanted]
    left = [v for v in every if v.version not in {r.version for r in removed}]
    for each in removed:
        if each.model_id and each.model_id not in {v.model_id for v in left}:
            _asked(settings, lambda e=each: _remove_model(settings, client, e.model_id))  # type: ignore[misc]
        if each.run_id and each.run_id not in {v.run_id for v in left}:
            _asked(settings, lambda e=each: _remove_run(settings, client, e.run_id))  # type: ignore[misc]
        store.forget_backtest(settings.model_name, each.version)
        _asked(settings, lambda e=each: client.delete_model_version(settings.model_name, str(e.version)))  # type: ignore[misc]
    return sorted(wanted & {*going.packages, *(v.version for v in going.versions)})


def _wanted(standing: Standing) -> set[int]:
    asked = standing.asked.version if standing.asked is not None else None
    return {v for v in (standing.pin, asked) if v is not None} | standing.proven


def _remove_model(settings: MlflowSettings, client: Any, model: str) -> None:
    """The files of a logged model; MLflow marks it as deleted."""
    from mlflow.exceptions import MlflowException

    try:
        location = client.get_logged_model(model).artifact_location
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    _remove_files(settings, location)
    client.delete_logged_model(model)


def _remove_run(settings: MlflowSettings, client: Any, run: str) -> None:
    """The files of a run. What it measured stays in MLflow, marked as deleted, until MLflow's own `gc`."""
    from mlflow.exceptions import MlflowException

    try:
        info = client.get_run(run).info
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return
    if info.lifecycle_stage == "active":
        _remove_files(settings, info.artifact_uri)
        client.delete_run(run)


def _remove_files(settings: MlflowSettings, location: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from requests import HTTPError

    try:
        get_artifact_repository(location, tracking_uri=settings.mlflow_url).delete_artifacts()  # type: ignore[no-untyped-call]
    except HTTPError as error:
        # A run cut short has taken them away before.
        if error.response is None or error.response.status_code != 404:
            raise
