"""The table of a bench, printed as it grows."""

from rich.console import Console
from rich.table import Table

__all__ = ["Report"]

_CONSOLE = Console()


class Report:
    """Measurements: ours, theirs and their ratio."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str, str]] = []

    def add(self, what: str, ours: str, theirs: str, ratio: str) -> None:
        """One measurement."""
        self._rows.append((what, ours, theirs, ratio))
        _CONSOLE.print(f"{what}: {ours} against {theirs}: {ratio}", highlight=False)

    def show(self) -> None:
        """The table."""
        table = Table(title="Hourcast, measured in one run", title_justify="left", pad_edge=False)
        for name in ("what", "Hourcast", "against", "ratio"):
            table.add_column(name)
        for row in self._rows:
            table.add_row(*row)
        _CONSOLE.print(table)
