"""`hourcast serve`: the model of a package, served by the code that is installed.

BentoML's application under uvicorn, in one process. `bentoml serve` of a package answers alike, with the sources that lie in
it; it starts an arbiter and a worker, where a rollout starts one process a replica and stops it with SIGTERM.
"""

import gc
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hourcast.errors import HourcastError, UnavailableError
from hourcast_bento.starting import App, Starting

__all__ = ["serve_folder", "serve_version", "wait_for_a_version"]

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_S = 0.5
_NO_MODEL = "no model has passed its gate yet; the first training runs when bars are there"


def wait_for_a_version(host: str, port: int) -> None:
    """Live until SIGTERM without a model, not ready, and say why."""

    def prepare(starting: Starting) -> None:
        starting.say(_NO_MODEL)
        # There is nothing to wait for here: the rollout that brings a version brings other servers.
        starting.started()

    _run(prepare, host, port, retry_after_s=30.0)


def serve_version(version: int | None, host: str, port: int, cache: Path | None) -> NoReturn:
    """Fetch a version, check it and serve it.

    Args:
        version: which one is served now or never; None: that of HOURCAST_MODEL_VERSION, which is waited for.
        host: address to listen at.
        port: port to listen at.
        cache: a folder that outlives this server.
    """

    def prepare(starting: Starting) -> App:
        _collect_later()
        from hourcast.bucket import open_bucket
        from hourcast_bento.fetching import fetch_model
        from hourcast_bento.settings import ServingSettings

        settings = ServingSettings.load(**({} if version is None else {"model_version": version}))
        logging.getLogger().setLevel(settings.log_level)
        wanted = settings.model_version
        assert wanted is not None
        starting.say(f"{settings.model_name} version {wanted} is being fetched")
        # One attempt a request where waiting is done here, which tells what it waits for.
        attempts, wait_s = (1, settings.fetch_wait_s) if version is None else (3, 0.0)
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url, attempts=attempts)
        scratch = _scratch()
        fetched = fetch_model(
            scratch, settings.model_name, wanted, bucket,
            cache=cache, keep=settings.cache_packages, wait_s=wait_s, tell=starting.say,
        )  # fmt: skip
        _LOG.info(
            "%s version %d (sha256 %s) is there, from the %s",
            fetched.model, fetched.version, fetched.sha256[:12], fetched.source,
        )  # fmt: skip
        os.environ["HOURCAST_MODEL_VERSION"] = str(wanted)
        if wait_s:
            _wait_for_tables(settings.resolved_database_url, wait_s, starting.say)
        starting.started()
        return _load(fetched.folder, scratch, starting)

    _run(prepare, host, port)


def _wait_for_tables(url: str, wait_s: float, tell: Callable[[str], None]) -> None:
    """Wait while the store's tables are those of an earlier release: its servers go on answering until they are brought up.

    A store that does not answer is not waited for, because a server can do without it for a while.

    Raises:
        UnavailableError: when the time is over.
    """
    from hourcast.store import open_store

    end, told = time.monotonic() + wait_s, False
    with open_store(url) as store:
        while True:
            try:
                reason = store.behind()
            except UnavailableError as error:
                _LOG.warning("whether the store's tables are this release's cannot be seen: %s", error)
                return
            if reason is None:
                return
            if time.monotonic() >= end:
                raise UnavailableError(reason)
            if not told:
                _LOG.warning("waiting, while the servers that run go on: %s", reason)
                told = True
            tell(reason)
            time.sleep(_LOOK_AGAIN_S)


def serve_folder(package: Path, host: str, port: int) -> NoReturn:
    """Serve an unpacked package, and ask no bucket for it."""

    def prepare(starting: Starting) -> App:
        _collect_later()
        from hourcast_bento.package import MODEL_FOLDER

        starting.started()
        return _load(package / MODEL_FOLDER, _scratch(), starting)

    _run(prepare, host, port)


def _collect_later() -> None:
    """Nothing that is imported becomes garbage; the service turns the collector on again when it has started."""
    gc.disable()


def _load(model: Path, scratch: Path, starting: Starting) -> App:
    """BentoML's application of a `model` folder whose golden input gives its golden output."""
    starting.say("the model is being loaded and its golden prediction checked")
    metrics = scratch / "metrics"
    metrics.mkdir()
    # Read when the modules that need them are first imported, which is below.
    os.environ |= {
        "HOURCAST_PACKAGE_DIR": str(model),
        "BENTOML_HOME": str(scratch / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }
    from hourcast_bento.package import load_model

    loaded = load_model(model)
    from hourcast_bento import service

    service.give(loaded)
    app: App = service.Hourcast.to_asgi()  # type: ignore[attr-defined]  # the decorator makes it a Service
    return app


def _scratch() -> Path:
    """An empty folder of this process; those of servers that no longer run are removed."""
    root = Path(tempfile.gettempdir()) / f"hourcast-serving-{os.getuid()}"
    folder = root / str(os.getpid())
    # Counters of a server that ended would be counted again, and in a container each has the same number.
    shutil.rmtree(folder, ignore_errors=True)
    for other in root.iterdir() if root.is_dir() else ():
        if other.name.isdigit() and not _runs(int(other.name)):
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _run(
    prepare: Callable[[Starting], App | None], host: str, port: int, retry_after_s: float = 1.0
) -> NoReturn:
    """Serve until SIGTERM; then end, with the exit code of what went wrong and its sentence as the last words."""
    from hourcast_bento.running import run

    servers: list[Any] = []

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    starting = Starting(prepare, stop, retry_after_s)
    code: Any = 0
    try:
        run(starting, host, port, servers.append)
    except SystemExit as ended:
        code = ended.code
    error = starting.error
    if error is None and not code and starting.waits:
        error = UnavailableError(f"told to end while this was waited for: {starting.reason}")
    if isinstance(error, HourcastError):
        print(f"hourcast: {error}", file=sys.stderr)
        code = error.exit_code
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # The thread that prepares may be anywhere, and nothing is left to be done.
    os._exit(code if isinstance(code, int) else 1)
