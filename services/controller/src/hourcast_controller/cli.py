"""`hourcast controller | status | history | pin | unpin | hold | release | undo | smoke`."""

import functools
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from hourcast.errors import RefusedError, UnavailableError, UndecidedError

if TYPE_CHECKING:
    from rich.console import Console

    from hourcast.contracts import PackageManifest
    from hourcast.decisions import DecisionKind, Standing, Undo
    from hourcast.store import Store
    from hourcast_controller.journal import Journal
    from hourcast_controller.kube import Kube
    from hourcast_controller.lease import Lease
    from hourcast_controller.plan import Deployment
    from hourcast_controller.registry import Registry
    from hourcast_controller.rollout import RolloutTarget
    from hourcast_controller.settings import ControllerSettings

__all__ = ["controller", "history", "hold", "pin", "release", "smoke", "status", "undo", "unpin"]

P = ParamSpec("P")
_WIDE = 120


@dataclass(slots=True)
class _Room:
    """Everything that a command talks to."""

    settings: "ControllerSettings"
    store: "Store"
    registry: "Registry"
    target: "RolloutTarget"
    journal: "Journal"
    kube: "Kube | None"
    namespace: str


@contextmanager
def _room(actor: str) -> Iterator[_Room]:
    from hourcast.clock import clock_from
    from hourcast.store import open_store
    from hourcast_controller.journal import Journal
    from hourcast_controller.registry import Registry
    from hourcast_controller.settings import ControllerSettings

    settings = ControllerSettings.load()
    logging.getLogger().setLevel(settings.log_level)
    target, kube, namespace = _target(settings)
    store = open_store(settings.resolved_database_url)
    journal = Journal(store, clock_from(settings.clock, store.clock), settings.model_name, actor)
    with Registry(settings.mlflow_url, settings.model_name) as registry:
        try:
            yield _Room(settings, store, registry, target, journal, kube, namespace)
        finally:
            target.close()
            store.close()


def _target(settings: "ControllerSettings") -> "tuple[RolloutTarget, Kube | None, str]":
    if settings.rollout_target == "local":
        from hourcast_controller.targets.local import LocalTarget

        return LocalTarget(settings.node_url), None, ""
    from hourcast_controller.kube import Kube
    from hourcast_controller.targets.kubernetes import KubernetesTarget

    kube = Kube()
    namespace = settings.namespace or kube.namespace
    return (
        KubernetesTarget(kube, namespace, settings.kube_deployment, settings.kube_packager),
        kube,
        namespace,
    )


@click.command()
def controller() -> None:
    """Watch the registry and roll the served version over; runs until it is told to stop."""
    from hourcast.bucket import open_bucket
    from hourcast_controller.loop import Controller
    from hourcast_controller.metrics import HealthServer, Metrics

    with _room("controller") as room, ExitStack() as running:
        settings, metrics = room.settings, Metrics()
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        hints: list[Callable[[], None]] = []
        lease = _lease(room, lambda: [hint() for hint in hints])
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


def _lease(room: _Room, on_change: Callable[[], object]) -> "Lease | None":
    """The lease of a cluster; on one machine there is one controller, and none is needed."""
    if room.kube is None:
        return None
    from hourcast_controller.lease import Lease

    # Imported and connected now, so that the first turn need not.
    _ = room.kube.client
    identity = room.settings.pod_name or f"{socket.gethostname()}-{os.getpid()}"
    return Lease(room.kube, room.namespace, room.settings.kube_lease, identity, on_change)


def _print_json(value: Any) -> None:
    def plain(part: Any) -> str:
        if isinstance(part, datetime):
            return part.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return str(part)

    click.echo(json.dumps(value, indent=1, default=plain))


_as_json = click.option("--json", "as_json", is_flag=True, help="for programs")
_width = click.option("--width", type=click.IntRange(20, 1000), hidden=True, help="columns of the table")
_AWAY = ("namespace", "context", "release_name")


def _anywhere(function: Callable[P, None]) -> Callable[P, None]:
    """Options with which a command runs in the controller's pod of a cluster, from a laptop with a kubeconfig."""

    @click.option("-n", "--namespace", metavar="NS", help="run in the controller's pod of this namespace")
    @click.option("--context", metavar="NAME", help="context of the kubeconfig")
    @click.option(
        "--release", "release_name", metavar="NAME", help="name of the Helm release (default: hourcast)"
    )
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        namespace, context, name = (kwargs.pop(key, None) for key in _AWAY)
        if namespace is context is name is None:
            return function(*args, **kwargs)
        from hourcast_controller.remote import run

        words = _words(click.get_current_context())
        shown = _console_width() if {"width"} & kwargs.keys() and not kwargs.get("as_json") else None
        sys.exit(
            run(
                ["hourcast", *words, *(["--width", str(shown)] if shown else [])],
                namespace=None if namespace is None else str(namespace),
                context=None if context is None else str(context),
                release=str(name or "hourcast"),
            )
        )

    return wrapped


def _words(context: click.Context) -> list[str]:
    """The command as it was given, without what says where it runs."""
    words = [context.info_name or ""]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if name in (*_AWAY, "width") or value is None or value is False:
            continue
        if isinstance(parameter, click.Option):
            words.append(parameter.opts[-1])
            if not parameter.is_flag:
                words.append(str(value))
        else:
            words.append(str(value))
    return words


def _console_width() -> int | None:
    """Columns of the terminal; where there is none, enough for a sentence on a line."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _WIDE
    except (OSError, ValueError):
        return _WIDE


def _console(width: int | None) -> "Console":
    from rich.console import Console

    return Console(width=width or _console_width())


def _served(room: _Room, deployment: "Deployment") -> str:
    """The served version in words; one without an alias of its own is pinned by its number."""
    version, alias = deployment.serving_version or 0, deployment.serving_alias or ""
    words = [f"alias {alias}"] if alias != str(version) else []
    with suppress(UnavailableError):
        words.append(room.registry.version(version).kind)
    return f"version {version}" + (f" ({', '.join(words)})" if words else "")


@click.command()
@_anywhere
@_as_json
@_width
def status(as_json: bool, width: int | None) -> None:
    """What is served, what should be, and what stands in the way."""
    from hourcast.failing import read_failing
    from hourcast_controller.plan import minded
    from hourcast_controller.policy import misread

    with _room("operator") as room:
        standing = room.store.standing(room.settings.model_name)
        _, deployment = minded(standing, room.target.observe())
        failing = read_failing(room.settings.state_dir)
        registry: Any = None
        problem = None
        try:
            registry = room.registry.read()
        except UnavailableError as error:
            problem = str(error)
        quarantine, blocked = standing.quarantine, standing.blocked
        jobs = room.target.jobs()
        aliases = dict(sorted(registry.aliases.items(), reverse=True)) if registry else {}
        skipped = misread(registry) if registry else {}
        if as_json:
            _print_json(
                {
                    "deployment": asdict(deployment),
                    "policy": room.settings.policy,
                    "aliases": aliases,
                    "registry_problem": problem,
                    "skipped": skipped,
                    "quarantine": {v: asdict(barred) for v, barred in quarantine.items()},
                    "blocked": asdict(blocked) if blocked else None,
                    "jobs": {name: asdict(job) for name, job in jobs.items()},
                    "failing": [asdict(f) for f in failing],
                }
            )
            return
        from rich.markup import escape
        from rich.table import Table

        console = _console(width)
        table = Table(show_header=False, box=None, pad_edge=False)
        served = deployment.serving_version
        table.add_row("serving", escape(_served(room, deployment)) if served else "nothing yet")
        if deployment.desired_version != served:
            how = (
                "rolling"
                if deployment.rolling and not standing.blocks(deployment.desired_version)
                else "wanted"
            )
            wanted = f"version {deployment.desired_version} (alias {deployment.desired_alias})"
            table.add_row(how, escape(wanted))
        table.add_row("policy", room.settings.policy)
        table.add_row("pin", f"version {deployment.pin}" if deployment.pin else "none")
        table.add_row("hold", "yes: nothing is rolled until `hourcast release`" if deployment.hold else "no")
        shown = [a for a in aliases if not a.startswith("backtest_")]
        told = ", ".join(f"{a} → v{aliases[a]}" for a in shown[:6]) or "none yet"
        back = len(aliases) - len(shown)
        told += f" … and {back} of back-tests" if back else ""
        table.add_row("aliases", escape(told if problem is None else problem))
        for version, reason in skipped.items():
            table.add_row("skipped", escape(f"version {version}: {reason}"))
        for version, barred in sorted(quarantine.items()):
            table.add_row("quarantine", escape(f"version {version}: {barred.reason}"))
        if blocked is not None:
            table.add_row("blocked", escape(f"{blocked.reason}; nothing else is tried until that is mended"))
        if deployment.failure:
            table.add_row("failure", escape(f"version {deployment.failed_version}: {deployment.failure}"))
        for name, job in jobs.items():
            if job.state != "succeeded":
                table.add_row("job", escape(f"{name}: {job.state} {job.message}"))
        for f in failing:
            table.add_row(
                "failing", escape(f"the {f.part} cannot work since {f.since:%Y-%m-%d %H:%M} UTC: {f.reason}")
            )
        console.print(table)


@click.command()
@_anywhere
@click.option("--limit", default=30, show_default=True, type=click.IntRange(1, 5000))
@_as_json
@_width
def history(limit: int, as_json: bool, width: int | None) -> None:
    """What was done, when and why, the newest first."""
    with _room("operator") as room:
        events = room.store.events(room.settings.model_name, limit=limit)
        if as_json:
            _print_json([asdict(event) for event in events])
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
        _console(width).print(table if events else "nothing has happened yet")


def _say(as_json: bool, sentence: str, **values: object) -> None:
    if as_json:
        _print_json(values)
    else:
        click.echo(sentence)


def _decide(
    room: _Room,
    kind: "DecisionKind",
    version: int | None,
    alias: str | None = None,
    reason: str = "by an operator",
    evidence: dict[str, object] | None = None,
    *,
    seen: int | None = None,
) -> None:
    """Store a person's decision; the controller acts on it at its next look.

    Raises:
        UndecidedError: when it is not stored.
    """
    try:
        room.journal.decide(kind, version, alias, reason, evidence, seen=seen)
    except UnavailableError as error:
        raise UndecidedError(f"this could not be stored, and nothing has changed: {error}") from error


def _standing(room: _Room) -> "Standing":
    try:
        return room.store.standing(room.settings.model_name)
    except UnavailableError as error:
        raise UndecidedError(f"nothing was decided: {error}") from error


def _minded(room: _Room, standing: "Standing") -> "Deployment":
    """The Deployment, with the pin and the hold that count."""
    from hourcast_controller.plan import minded

    try:
        return minded(standing, room.target.observe())[1]
    except UnavailableError as error:
        raise UndecidedError(f"nothing was decided: {error}") from error


@click.command()
@_anywhere
@click.argument("version", type=click.IntRange(min=1))
@_as_json
def pin(version: int, as_json: bool) -> None:
    """Serve VERSION and no other, until `hourcast unpin`."""
    with _room("operator") as room:
        barred = _standing(room).quarantine.get(version)
        if barred is not None:
            raise RefusedError(
                f"version {version} is in quarantine ({barred.reason}); `hourcast release --version {version}` first"
            )
        if _manifest(room, version) is None:
            _must_be_good(room, version)
        _decide(room, "pinned", version)
        _say(as_json, f"pinned to version {version}; `hourcast unpin` gives the choice back", pin=version)


def _manifest(room: _Room, version: int) -> "PackageManifest | None":
    """What the bucket says of a version; None where it is not packaged, or the bucket does not answer."""
    from hourcast.bucket import manifest_key, open_bucket
    from hourcast.contracts import PackageManifest

    settings = room.settings
    try:
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        body = bucket.get(manifest_key(settings.model_name, version))
        return None if body is None else PackageManifest.model_validate_json(body)
    except (UnavailableError, ValueError):
        return None


def _must_be_good(room: _Room, version: int) -> None:
    """Ask MLflow about a version that has no package yet."""
    try:
        numbers = room.registry.numbers()
        if version not in numbers:
            raise RefusedError(
                f"version {version} of {room.settings.model_name} does not exist; "
                f"versions are {', '.join(map(str, numbers[-20:])) or 'none yet'}"
            )
        facts = room.registry.version(version)
    except UnavailableError as error:
        raise UndecidedError(
            f"version {version} has no package in the bucket, and nobody else can say that it may be served: {error}"
        ) from error
    if facts.gate != "passed":
        raise RefusedError(f"version {version} did not pass its gate ({facts.gate}); it is never served")


@click.command()
@_anywhere
@_as_json
def unpin(as_json: bool) -> None:
    """Give the choice back to the policy."""
    with _room("operator") as room:
        before = _minded(room, _standing(room)).pin
        if before is not None:
            _decide(room, "unpinned", before)
        _say(
            as_json,
            "nothing was pinned" if before is None else f"version {before} is no longer pinned",
            pin=None,
        )


@click.command()
@_anywhere
@_as_json
def hold(as_json: bool) -> None:
    """Roll nothing until `hourcast release`; an undo still does."""
    with _room("operator") as room:
        version = None
        with suppress(UnavailableError):
            version = room.target.observe().serving_version
        _decide(room, "held", version)
        _say(as_json, "held: nothing is rolled until `hourcast release`", hold=True)


@click.command()
@_anywhere
@click.option(
    "--version", "version", type=click.IntRange(min=1), help="take this version out of quarantine instead"
)
@_as_json
def release(version: int | None, as_json: bool) -> None:
    """End a hold, or with --version a quarantine."""
    with _room("operator") as room:
        if version is None:
            _decide(room, "released", None)
            _say(as_json, "released: the policy decides again", hold=False)
            return
        quarantine = _standing(room).quarantine
        if version not in quarantine:
            raise RefusedError(
                f"version {version} is not in quarantine; in it are {', '.join(map(str, sorted(quarantine))) or 'none'}"
            )
        _decide(room, "unquarantined", version)
        _say(as_json, f"version {version} may be served again", version=version)


@click.command()
@_anywhere
@_as_json
def undo(as_json: bool) -> None:
    """Take back what was rolled out last: it goes into quarantine, and what served before takes its place."""
    from hourcast_controller.undoing import taken_back

    with _room("operator") as room:
        standing = _standing(room)
        deployment = _minded(room, standing)
        version, alias = taken_back(deployment)
        before = standing.undo
        if before is None or before.version != version:
            before = _undo(room, version, alias, deployment, standing)
            manifest = _manifest(room, version)
            evidence: dict[str, object] = {
                "run_id": manifest.run_id if manifest else "", "to": before.to, "to_alias": before.to_alias,
            }  # fmt: skip
            _decide(room, "undone", version, alias, "undone by an operator", evidence, seen=standing.id)
        _say(
            as_json,
            f"version {version} is undone and in quarantine, and version {before.to} takes its place; "
            f"`hourcast release --version {version}` would let it back",
            undone=version,
            to=before.to,
        )


def _undo(
    room: _Room, version: int, alias: str | None, deployment: "Deployment", standing: "Standing"
) -> "Undo":
    from hourcast.bucket import open_bucket
    from hourcast_controller.packages import floors, packaged
    from hourcast_controller.undoing import undo_to

    settings = room.settings
    there: frozenset[int] | None = None
    fallbacks: list[int] = []
    with suppress(UnavailableError):
        bucket = open_bucket(settings.resolved_bucket_url, settings.s3_endpoint_url)
        there = packaged(bucket, settings.model_name)
        fallbacks = floors(bucket, settings.model_name, there, version)
    return undo_to(version, alias, deployment, standing, there, fallbacks)


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
