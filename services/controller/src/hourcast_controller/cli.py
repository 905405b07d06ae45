"""`hourcast controller | status | history | pin | unpin | hold | release | undo | smoke`."""

import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict

import click

from hourcast.errors import RefusedError, UnavailableError
from hourcast_controller.operating import (
    decide,
    manifest_of,
    minded_deployment,
    must_be_good,
    standing_of,
    where_to_go_back,
)
from hourcast_controller.output import anywhere, as_json_option, console, print_json, say, width_option
from hourcast_controller.room import lease_of, open_room

__all__ = ["controller", "history", "hold", "pin", "release", "smoke", "status", "undo", "unpin"]


@click.command()
def controller() -> None:
    """Watch the registry and roll the served version over; runs until it is told to stop."""
    from hourcast.bucket import open_bucket
    from hourcast_controller.loop import Controller
    from hourcast_controller.metrics import HealthServer, Metrics

    with open_room("controller") as room, ExitStack() as running:
        settings, metrics = room.settings, Metrics()
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        hints: list[Callable[[], None]] = []
        lease = lease_of(room, lambda: [hint() for hint in hints])
        loop = Controller(
            settings, room.registry, bucket, room.store, room.target, room.journal, lease, metrics
        )
        hints.append(loop.hint)
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
        signal.signal(signal.SIGINT, lambda *_: loop.stop())
        if settings.metrics_port is not None:
            health = HealthServer(settings.metrics_host, settings.metrics_port, metrics)
            health.start()
            running.callback(health.stop)
        if settings.webhook_secret is not None:
            from hourcast_controller.webhook import Webhook

            webhook = Webhook(
                settings.webhook_host,
                settings.webhook_port,
                settings.webhook_secret.get_secret_value(),
                loop.hint,
                hear=lease.hear if lease is not None else lambda _id: True,
                count=lambda outcome: metrics.webhooks.labels(outcome).inc(),
            )
            webhook.start()
            running.callback(webhook.stop)
        if lease is not None:
            lease.start()
            running.callback(lease.stop)
        loop.run()


@click.command()
@anywhere
@as_json_option
@width_option
def status(as_json: bool, width: int | None) -> None:
    """What is served, what should be, and what stands in the way."""
    from hourcast_controller.status import look

    with open_room("operator") as room:
        seen = look(room)
    if as_json:
        print_json(seen.to_json())
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, told in seen.rows():
        table.add_row(name, escape(told))
    console(width).print(table)


@click.command()
@anywhere
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1, 5000))
@as_json_option
@width_option
def history(limit: int, as_json: bool, width: int | None) -> None:
    """What was done, when and why, the newest first."""
    with open_room("operator") as room:
        events = room.store.events(room.settings.model_name, limit=limit)
        if as_json:
            print_json([asdict(event) for event in events])
            return
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        from hourcast_controller.champion import evidence_in_words

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("when (UTC)", "what"):
            table.add_column(name, no_wrap=True)
        table.add_column("why", overflow="fold")
        for e in events:
            table.add_row(
                f"{e.at:%Y-%m-%d %H:%M}",
                e.kind.replace("_", " ") + (f" v{e.version}" if e.version is not None else ""),
                escape(e.reason + ("" if e.actor == "controller" else f" ({e.actor})"))
                + (f"\n[dim]{escape(words)}[/]" if (words := evidence_in_words(e.evidence)) else ""),
            )
        console(width).print(table if events else "nothing has happened yet")


@click.command()
@anywhere
@click.argument("version", type=click.IntRange(min=1))
@as_json_option
def pin(version: int, as_json: bool) -> None:
    """Serve VERSION and no other, until `hourcast unpin`."""
    with open_room("operator") as room:
        barred = standing_of(room).quarantine.get(version)
        if barred is not None:
            raise RefusedError(
                f"version {version} is in quarantine ({barred.reason}); `hourcast release --version {version}` first"
            )
        if manifest_of(room, version) is None:
            must_be_good(room, version)
        decide(room, "pinned", version)
        say(as_json, f"pinned to version {version}; `hourcast unpin` gives the choice back", pin=version)


@click.command()
@anywhere
@as_json_option
def unpin(as_json: bool) -> None:
    """Give the choice back to the policy."""
    with open_room("operator") as room:
        before = minded_deployment(room, standing_of(room)).pin
        if before is not None:
            decide(room, "unpinned", before)
        say(
            as_json,
            "nothing was pinned" if before is None else f"version {before} is no longer pinned",
            pin=None,
        )


@click.command()
@anywhere
@as_json_option
def hold(as_json: bool) -> None:
    """Roll nothing until `hourcast release`; an undo still does."""
    with open_room("operator") as room:
        version = None
        with suppress(UnavailableError):
            version = room.target.observe().serving_version
        decide(room, "held", version)
        say(as_json, "held: nothing is rolled until `hourcast release`", hold=True)


@click.command()
@anywhere
@click.option(
    "--version", "version", type=click.IntRange(min=1), help="take this version out of quarantine instead"
)
@as_json_option
def release(version: int | None, as_json: bool) -> None:
    """End a hold, or with --version a quarantine."""
    with open_room("operator") as room:
        if version is None:
            decide(room, "released", None)
            say(as_json, "released: the policy decides again", hold=False)
            return
        quarantine = standing_of(room).quarantine
        if version not in quarantine:
            raise RefusedError(
                f"version {version} is not in quarantine; in it are {', '.join(map(str, sorted(quarantine))) or 'none'}"
            )
        decide(room, "unquarantined", version)
        say(as_json, f"version {version} may be served again", version=version)


@click.command()
@anywhere
@as_json_option
def undo(as_json: bool) -> None:
    """Take back what was rolled out last: it goes into quarantine, and what served before takes its place."""
    from hourcast_controller.undoing import taken_back

    with open_room("operator") as room:
        standing = standing_of(room)
        deployment = minded_deployment(room, standing)
        version, alias = taken_back(deployment)
        before = standing.undo
        if before is None or before.version != version:
            before = where_to_go_back(room, version, alias, deployment, standing)
            manifest = manifest_of(room, version)
            evidence: dict[str, object] = {
                "run_id": manifest.run_id if manifest else "", "to": before.to, "to_alias": before.to_alias,
            }  # fmt: skip
            decide(room, "undone", version, alias, "undone by an operator", evidence, seen=standing.id)
        say(
            as_json,
            f"version {version} is undone and in quarantine, and version {before.to} takes its place; "
            f"`hourcast release --version {version}` would let it back",
            undone=version,
            to=before.to,
        )


@click.command()
@click.option("--api", required=True, metavar="URL", help="address of the API")
@click.option("--viz", required=True, metavar="URL", help="address of the dashboard")
@click.option("--mlflow", required=True, metavar="URL", help="address of MLflow")
@click.option(
    "--wait",
    "wait_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    help="seconds to wait at most",
)
def smoke(api: str, viz: str, mlflow: str, wait_s: float) -> None:
    """Ask the API, the dashboard and MLflow once each; the first that does not answer well ends it with 1."""
    from hourcast_controller.smoke import check

    for line in check(api, viz, mlflow, wait_s=wait_s):
        click.echo(line)
