"""MLflow: runs, versions, tags and aliases. The trainer is their only writer."""

import contextlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hourcast import __version__
from hourcast.contracts import CHAMPION, CHAMPION_EVIDENCE, Bars, Golden, alias_date
from hourcast.errors import UnavailableError
from hourcast.forecaster import ForecasterSpec, save
from hourcast_trainer.gate import Decision
from hourcast_trainer.models import EpochLosses, Fitted
from hourcast_trainer.settings import TrainerSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.models.model import ModelInfo

__all__ = ["RegisteredVersion", "Registry", "registered"]

_LOG = logging.getLogger(__name__)
_STAGE = "stage"
_ALIAS_TAG = "alias"
_ALIAS_SET = "alias_set"
_HOLDER = "holder"
_CHALLENGE = "challenge"
# MLflow refuses tags of more than 5,000 characters.
_LONGEST_TAG = 4900
_PAGE = 1000
# The forecaster runs on these alone; `hourcast` is installed from its source, in libs/hourcast.
_REQUIREMENTS = [f"hourcast=={__version__}", "mlflow", "numpy", "onnxruntime", "pandas"]


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version as the registry has it; `gate` is None at one that is not ours.

    `challenged` says whether it has had its challenge of the champion.
    """

    version: int
    kind: str
    stage: str
    gate: str | None
    trained_through: date | None
    alias: str | None
    alias_was_set: bool
    challenged: bool = False


def registered(version: int, tags: Mapping[str, str], today: date) -> RegisteredVersion:
    """A version by what its tags say; one with a tag that cannot be understood counts as none of ours, and is named.

    A span of training ends on a day that has been: another would put off the next training until then.
    """
    trained_through: date | None = None
    told = tags.get("trained_through")
    stage = tags.get(_STAGE, "unknown")
    if told:
        with contextlib.suppress(ValueError):
            trained_through = date.fromisoformat(told)
        if trained_through is None or trained_through > today:
            _LOG.warning(
                "version %d is skipped: its tag trained_through cannot be understood: %r is no day that has been",
                version, told[:80],
            )  # fmt: skip
            trained_through, stage = None, "unknown"
    alias = tags.get(_ALIAS_TAG)
    if alias is not None and alias_date(alias) is None:
        _LOG.warning(
            "version %d gets no alias from its tag: %r is neither YYYYMMDD nor backtest_YYYYMMDD",
            version, alias[:80],
        )  # fmt: skip
        alias = None
    return RegisteredVersion(
        version=version,
        kind=tags.get("kind", "unknown"),
        stage=stage,
        gate=tags.get("gate"),
        trained_through=trained_through,
        alias=alias,
        alias_was_set=tags.get(_ALIAS_SET) == "true",
        challenged=_CHALLENGE in tags,
    )


class Registry:
    """One registered model and its experiment.

    `holder` is the exclusive name under which this process works: only what it left is ever cleared as interrupted,
    because another holder's unfinished run may be at work.
    """

    def __init__(self, settings: TrainerSettings, holder: str = "train") -> None:
        # MLflow retries for minutes by default; a job that fails soon is tried again by its schedule.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        # Artefacts go through MLflow, which alone has the bucket's keys, and not by signed addresses past it.
        os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
        os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
        import mlflow

        self._mlflow = mlflow
        self._settings = settings
        self._name = settings.model_name
        self._holder = holder
        mlflow.set_tracking_uri(settings.mlflow_url)
        mlflow.set_registry_uri(settings.mlflow_url)
        self._client = mlflow.MlflowClient(settings.mlflow_url, settings.mlflow_url)
        self._experiment_id: str | None = None

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Whatever fails at MLflow in here is told as what it is: a server that does not answer.

        Raises:
            UnavailableError: when MLflow does not answer.
        """
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            yield
        except (MlflowException, RequestException) as error:
            raise UnavailableError(
                f"MLflow at {self._settings.mlflow_url} does not answer ({str(error).splitlines()[0][:160]}); "
                "check HOURCAST_MLFLOW_URL and that it runs",
                retry_after_s=5,
            ) from error

    def ready(self) -> None:
        """Make sure that the server answers and the model exists; others may do the same at this moment.

        Raises:
            UnavailableError: when MLflow does not answer.
        """
        from mlflow.exceptions import RestException

        with self.answering():
            try:
                self._client.create_registered_model(self._name)
            except RestException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._experiment_id = self._mlflow.set_experiment(self._name).experiment_id

    def versions(self) -> list[RegisteredVersion]:
        """Every version, oldest first."""
        found: list[Any] = []
        token = ""
        while True:
            page = self._client.search_model_versions(
                f"name = '{self._name}'", max_results=_PAGE, page_token=token or None
            )
            found += page
            token = page.token
            if not token:
                break
        today = datetime.now(UTC).date()
        out = [registered(int(item.version), item.tags, today) for item in found]
        return sorted(out, key=lambda v: v.version)

    def aliases(self) -> dict[str, int]:
        """Alias to version."""
        model = self._client.get_registered_model(self._name)
        return {alias: int(version) for alias, version in model.aliases.items()}

    def clear_interrupted(self) -> int:
        """Close the runs that a killed holder of this name left; how many."""
        assert self._experiment_id is not None
        runs: list[Any] = []
        token = ""
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                "attributes.status = 'RUNNING'",
                max_results=_PAGE,
                page_token=token or None,
            )
            runs += [run for run in page if self._is_ours(run.data.tags)]
            token = page.token
            if not token:
                break
        for run in runs:
            self._client.set_tag(run.info.run_id, "ended_by", "a later training: this one was interrupted")
            self._client.set_terminated(run.info.run_id, "KILLED")
        return len(runs)

    def _is_ours(self, tags: Mapping[str, str]) -> bool:
        return tags.get(_HOLDER, "train") == self._holder

    def _tag(self, version: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(self._name, str(version), key, value[:_LONGEST_TAG])

    def register(
        self,
        fitted: Fitted,
        golden: Golden,
        bars: Mapping[str, Bars],
        stage: str,
        metrics: Mapping[str, float],
        plots: Mapping[str, "Figure"],
        decision: Decision | None,
        alias: str,
    ) -> int:
        """Log a run with all that belongs to it, and register its model as a version with what the gate said.

        The version comes with all its tags, so that nobody finds one half told; `alias` is written at one that passed,
        and set by `set_alias`.
        """
        mlflow, spec = self._mlflow, fitted.spec
        # From its first moment a run says whose it is.
        tags = {_HOLDER: self._holder, "code_version": __version__, "kind": spec.kind, _STAGE: stage}
        with (
            tempfile.TemporaryDirectory() as folder,
            mlflow.start_run(run_name=f"{spec.kind} {alias}", tags=tags) as run,
        ):
            directory = Path(folder) / "forecaster"
            save(directory, fitted.forecaster())
            (Path(folder) / "golden.json").write_text(golden.model_dump_json())
            mlflow.log_params(
                {
                    "kind": spec.kind,
                    "seed": spec.seed,
                    "trained_through": spec.trained_through.isoformat(),
                    "training_start": spec.training.start.isoformat(),
                    "training_end": spec.training.end.isoformat(),
                    "training_rows": spec.training.rows,
                    **fitted.params,
                }
            )
            mlflow.log_input(self._dataset(bars[spec.target], fitted), context="training")
            self._log_metrics(run.info.run_id, fitted.epochs, metrics)
            for name, figure in plots.items():
                mlflow.log_figure(figure, f"plots/{name}.png")
            # MLflow prints there what we tell better; its errors are raised.
            with contextlib.redirect_stderr(io.StringIO()):
                info = self._log_model(Path(folder), spec, golden)
                version = mlflow.register_model(
                    info.model_uri, self._name, tags=_version_tags(fitted, stage, metrics, decision, alias)
                )
            return int(version.version)

    def _log_model(self, folder: Path, spec: ForecasterSpec, golden: Golden) -> "ModelInfo":
        """Log what lies in `folder` as a model that MLflow can serve by itself."""
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, Schema

        columns = [("symbol", "string"), ("open_time", "long"), ("close_time", "long")]
        columns += [(name, "double") for name in ("open", "high", "low", "close", "volume")]
        outputs = [("origin", "long"), ("target_time", "long"), ("horizon", "long")]
        outputs += [(f"q{level:.2f}", "double") for level in spec.levels]
        info: ModelInfo = self._mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"forecaster": str(folder / "forecaster"), "golden": str(folder / "golden.json")},
            signature=ModelSignature(
                Schema([ColSpec(kind, name) for name, kind in columns]),
                Schema([ColSpec(kind, name) for name, kind in outputs]),
            ),
            input_example=_example(golden),
            pip_requirements=_REQUIREMENTS,
        )
        return info

    def keep_report(
        self, title: str, html: str, figures: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> str:
        """Log a skill report as a run of its own, with the page `report.html` and `figures.json`; its run id."""
        mlflow = self._mlflow
        tags = {_HOLDER: self._holder, "code_version": __version__, _STAGE: "report"}
        with mlflow.start_run(run_name=title, tags=tags) as run:
            self._log_metrics(run.info.run_id, [], metrics)
            mlflow.log_text(html, "report.html")
            mlflow.log_dict(dict(figures), "figures.json")
            return str(run.info.run_id)

    def _log_metrics(self, run_id: str, epochs: Sequence[EpochLosses], metrics: Mapping[str, float]) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, 0) for name, value in metrics.items()]
        for e in epochs:
            points.append(Metric("training_loss", e.training, now, e.epoch))
            points.append(Metric("validation_loss", e.validation, now, e.epoch))
        self._client.log_batch(run_id, metrics=points)

    def _dataset(self, target: Bars, fitted: Fitted) -> Any:
        import pandas as pd

        training = fitted.spec.training
        span = target.take(
            (target.close_time >= training.start.timestamp())
            & (target.close_time <= training.end.timestamp())
        )
        frame = pd.DataFrame({"close_time": pd.to_datetime(span.close_time, unit="s"), "close": span.close})
        return self._mlflow.data.from_pandas(  # type: ignore[attr-defined]
            frame, name=f"{target.symbol} bars", digest=fitted.spec.data_fingerprint
        )

    def set_alias(self, version: int, alias: str) -> None:
        """Point an alias at a version, and note that it was, so that a later run does not set it again."""
        self._client.set_registered_model_alias(self._name, alias, str(version))
        self._tag(version, {_ALIAS_SET: "true"})

    def crown(self, version: int, evidence: Mapping[str, Any]) -> None:
        """Make a version champion. The evidence comes first: who sees the alias finds it."""
        self._tag(version, {CHAMPION_EVIDENCE: json.dumps(evidence)})
        self._client.set_registered_model_alias(self._name, CHAMPION, str(version))

    def note_challenge(self, version: int, outcome: str) -> None:
        """Note that a version has had its challenge, and how it ended."""
        self._tag(version, {_CHALLENGE: outcome})

    def note_decision(self, version: int, decision: Decision, alias: str) -> None:
        """Write down what the gate said of a version that was registered before it was asked."""
        self._tag(version, _gate_tags(decision, alias))

    def finish_aliases(self) -> list[tuple[str, int]]:
        """Set aliases that a killed training had decided on and not set. Aliases that people removed stay removed."""
        done = []
        for version in self.versions():
            if version.gate == "passed" and version.alias and not version.alias_was_set:
                self.set_alias(version.version, version.alias)
                done.append((version.alias, version.version))
        return done

    def forecaster_of(self, version: int, into: Path | None = None) -> Path:
        """Download a version's forecaster directory, into a folder of the caller's where one is given."""
        folder = self._mlflow.artifacts.download_artifacts(
            artifact_uri=f"models:/{self._name}/{version}", dst_path=None if into is None else str(into)
        )
        return Path(folder) / "artifacts" / "forecaster"


def _version_tags(
    fitted: Fitted, stage: str, metrics: Mapping[str, float], decision: Decision | None, alias: str
) -> dict[str, str]:
    spec = fitted.spec
    tags = {
        "kind": spec.kind,
        _STAGE: stage,
        "trained_through": spec.trained_through.isoformat(),
        "decided_at": spec.decided_at.isoformat(),
        "data_fingerprint": spec.data_fingerprint,
        "code_version": spec.code_version,
        **{name: f"{value:.6g}" for name, value in metrics.items()},
        **_gate_tags(decision, alias),
    }
    return {key: value[:_LONGEST_TAG] for key, value in tags.items()}


def _gate_tags(decision: Decision | None, alias: str) -> dict[str, str]:
    if decision is None:
        # Neither passed nor failed: who reads the registry meanwhile must not take it for either.
        return {"gate": "undecided", "gate_reason": "it was not decided yet"}
    tags = {"gate": "passed" if decision.passed else "failed", "gate_reason": decision.reason}
    return tags | ({_ALIAS_TAG: alias} if decision.passed else {})


def _example(golden: Golden) -> Any:
    import pandas as pd

    # An empty part would turn whole seconds into floats.
    parts = [pd.DataFrame(part) for part in golden.bars.values() if part["open_time"]]
    return pd.concat(parts, ignore_index=True)[
        ["symbol", "open_time", "close_time", "open", "high", "low", "close", "volume"]
    ]
