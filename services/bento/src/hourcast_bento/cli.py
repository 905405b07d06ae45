"""`hourcast package` and `hourcast serve`."""

import logging
import os
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
@click.option("--version", "version", type=click.IntRange(min=1), help="serve this version")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="serve the unpacked package in this folder",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder that outlives this server and keeps packages",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--host", default="127.0.0.1", show_default=True)
def serve(version: int | None, folder: Path | None, cache: Path | None, port: int, host: str) -> None:
    """Serve a packaged version; without --version it is that of HOURCAST_MODEL_VERSION, and is waited for."""
    from hourcast_bento.server import serve_folder, serve_version, wait_for_a_version

    if folder is not None:
        if version is not None or cache is not None:
            raise click.UsageError("--folder goes with neither --version nor --cache")
        serve_folder(folder.resolve(), host, port)
    rolled_out = os.environ.get("HOURCAST_MODEL_VERSION")
    if version is None and rolled_out is None:
        raise click.UsageError("give --version or --folder, or set HOURCAST_MODEL_VERSION")
    if version is None and not rolled_out:
        wait_for_a_version(host, port)
    serve_version(version, host, port, cache)
