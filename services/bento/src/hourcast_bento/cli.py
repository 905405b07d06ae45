"""`hourcast package` and `hourcast serve`."""

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

__all__ = ["package", "serve"]


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
    packager = Packager(settings)
    if version is not None:
        manifest = packager.package(version)
        click.echo(
            f"packaged {manifest.model} version {version} ({manifest.kind}): "
            f"{manifest.size_bytes / 1e6:.2f} MB, sha256 {manifest.sha256[:12]}"
        )
    index = packager.write_index()
    click.echo(f"alias index: {len(index.aliases)} aliases")


@click.command()
@click.option(
    "--version", "version", type=click.IntRange(min=1), envvar="HOURCAST_MODEL_VERSION", required=True
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
def serve(version: int, port: int, host: str) -> None:
    """Serve a packaged version from its .bento alone."""
    from hourcast.bucket import open_bucket
    from hourcast_bento.package import fetch, unpack
    from hourcast_bento.settings import ServingSettings

    settings = ServingSettings.load(model_version=version)
    bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
    body = fetch(bucket, settings.model_name, version)
    root = Path(tempfile.gettempdir()) / f"hourcast-serving-{os.getuid()}"
    _clear_dead(root)
    folder = root / str(os.getpid())
    unpack(body, folder)
    (folder / "metrics").mkdir()
    environment = os.environ | {
        "HOURCAST_MODEL_VERSION": str(version),
        "HOURCAST_PACKAGE_DIR": str(folder / "src" / "model"),
        "BENTOML_HOME": str(folder / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
    }
    # The process becomes BentoML's server with the package's own sources, so that nothing of ours stays in between.
    command = [sys.executable, "-m", "hourcast_bento.server", str(folder), host, str(port)]
    environment["PYTHONPATH"] = str(folder / "src")
    os.chdir(folder / "src")
    os.execve(sys.executable, command, environment)


def _clear_dead(root: Path) -> None:
    """Remove what servers that no longer run have unpacked."""
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if folder.name.isdigit() and not Path(f"/proc/{folder.name}").exists():
            shutil.rmtree(folder, ignore_errors=True)
