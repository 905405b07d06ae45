"""What a command prints: for people or for programs, here or in the controller's pod."""

import functools
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["anywhere", "as_json_option", "console", "print_json", "say", "width_option"]

P = ParamSpec("P")
_WIDE = 120
_AWAY = ("namespace", "context", "release_name")
as_json_option = click.option("--json", "as_json", is_flag=True, help="for programs")
width_option = click.option(
    "--width", type=click.IntRange(20, 1000), hidden=True, help="columns of the table"
)


def print_json(value: Any) -> None:
    """Print `value`; times end with Z."""

    def plain(part: Any) -> str:
        if isinstance(part, datetime):
            return part.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return str(part)

    click.echo(json.dumps(value, indent=1, default=plain))


def say(as_json: bool, sentence: str, **values: object) -> None:
    """Print the sentence, or for programs the values."""
    if as_json:
        print_json(values)
    else:
        click.echo(sentence)


def anywhere(function: Callable[P, None]) -> Callable[P, None]:
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


def console(width: int | None) -> "Console":
    """As wide as the terminal, or as asked."""
    from rich.console import Console

    return Console(width=width or _console_width())
