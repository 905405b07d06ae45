"""`hourcast package`, `hourcast fetch` and `hourcast serve`."""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

__all__ = ["fetch", "package", "serve"]


@click.command()
@click.argument("version", required=False, type=click.IntRange(min=1))
@click.option("--index", "index_only", is_flag=True, help="only write the alias index")
def package(version: int | None, index_only: bool) -> None:
    """Package a registry version as a .bento into the bucket, and write the alias index."""
    from hourcast_bento.packager import Packager
    from hourcast_bento.settings import ServingSettings

    if (version is None) != index_only:
        raise click.UsageError("give a VERSION, or --index")
    settings = ServingSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    with Packager(settings) as packager:
        if version is not None:
            manifest = packager.package(version)
            click.echo(
                f"packaged {manifest.model} version {version} ({manifest.kind}): "
                f"{manifest.size_bytes / 1e6:.2f} MB, sha256 {manifest.sha256[:12]}"
            )
        index = packager.write_index()
    click.echo(f"alias index: {len(index.aliases)} aliases")


@click.command()
@click.option("--into", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), help="folder that outlives this pod"
)
def fetch(folder: Path, cache: Path | None) -> None:
    """Fetch the package of HOURCAST_MODEL_VERSION into a folder, for `hourcast serve --folder`."""
    from hourcast.bucket import open_bucket
    from hourcast_bento.fetching import fetch_into, prepare_empty
    from hourcast_bento.settings import ServingSettings

    settings = ServingSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    if settings.model_version is None:
        prepare_empty(folder)
        click.echo("no model version was rolled out yet; the server will say so and wait")
        return
    began = time.monotonic()
    # One attempt a request: waiting is done here, and tells what it waits for.
    bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url, attempts=1)
    fetched = fetch_into(
        folder,
        settings.model_name,
        settings.model_version,
        bucket,
        cache=cache,
        keep=settings.cache_packages,
        wait_s=settings.fetch_wait_s,
    )
    click.echo(
        f"{fetched.model} version {fetched.version} (sha256 {fetched.sha256[:12]}) is there, "
        f"from the {fetched.source}, after {time.monotonic() - began:.2f} s"
    )


@click.command()
@click.option("--version", "version", type=click.IntRange(min=1), help="fetch this version and serve it")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="serve what `hourcast fetch` has laid there",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
def serve(version: int | None, folder: Path | None, port: int, host: str) -> None:
    """Serve a packaged version from its .bento alone; without --folder, HOURCAST_MODEL_VERSION may name it."""
    if folder is None:
        _serve_version(version, host, port)
    elif version is not None:
        raise click.UsageError("give --version or --folder, not both")
    else:
        _serve_folder(folder, host, port)


def _serve_version(version: int | None, host: str, port: int) -> None:
    from hourcast.bucket import open_bucket
    from hourcast_bento.package import fetch, unpack
    from hourcast_bento.settings import ServingSettings

    settings = ServingSettings.load(**({} if version is None else {"model_version": version}))
    if settings.model_version is None:
        raise click.UsageError("give --version or --folder, or set HOURCAST_MODEL_VERSION")
    bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
    body = fetch(bucket, settings.model_name, settings.model_version)
    root = Path(tempfile.gettempdir()) / f"hourcast-serving-{os.getuid()}"
    _clear_dead(root)
    folder = root / str(os.getpid())
    unpack(body, folder)
    _become_server(folder, folder, host, port, {"HOURCAST_MODEL_VERSION": str(settings.model_version)})


def _serve_folder(folder: Path, host: str, port: int) -> None:
    # Neither settings nor the bucket are needed here, and a start is short without them.
    folder = folder.resolve()
    if not (folder / "src").is_dir():
        from hourcast_bento.waiting import main as wait

        wait(host, port)
        return
    scratch = Path(tempfile.gettempdir()) / f"hourcast-serving-{os.getuid()}" / "folder"
    # Counters of a server that ended would be counted again.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _become_server(folder, scratch, host, port, {})


def _become_server(package: Path, scratch: Path, host: str, port: int, more: Mapping[str, str]) -> None:
    """Become BentoML's server with the package's own sources, so that nothing of ours stays in between."""
    (scratch / "metrics").mkdir()
    environment = os.environ | {
        "HOURCAST_PACKAGE_DIR": str(package / "src" / "model"),
        "BENTOML_HOME": str(scratch / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PROMETHEUS_MULTIPROC_DIR": str(scratch / "metrics"),
        "PYTHONPATH": str(package / "src"),
        **more,
    }
    command = [sys.executable, "-m", "hourcast_bento.server", str(package), host, str(port)]
    os.chdir(package / "src")
    os.execve(sys.executable, command, environment)


def _clear_dead(root: Path) -> None:
    """Remove what servers that no longer run have unpacked."""
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if folder.name.isdigit() and not Path(f"/proc/{folder.name}").exists():
            shutil.rmtree(folder, ignore_errors=True)
