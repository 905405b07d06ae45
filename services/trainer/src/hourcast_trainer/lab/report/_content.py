"""What a report is told beside its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from hourcast.contracts import parse_hour, to_epoch

__all__ = ["SEED", "About", "Fold", "Seed"]


@dataclass(frozen=True, slots=True)
class About:
    """How a walk was made, in words that are shown as they are.

    `symbol` and `currency` name the series; `refit` the calendar of fittings ("every 7 days, expanding window"), `window` what a
    fitting looks at, `embargo` the hours left out between training and test, `chosen` how hyperparameters were; `data_fingerprint` and `code_version` say what went in, and `command`
    how to get the page again. `notes` are sentences of what else a reader must know, such as what was tried in vain.
    """

    symbol: str
    currency: str
    refit: str
    window: str
    embargo: str
    chosen: str
    data_fingerprint: str
    code_version: str
    command: str
    synthetic: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fold:
    """One step of the walk of one kind: forecasts for [start, end), what it was fitted on, what it chose, and its rows' SHA-256."""

    kind: str
    start: datetime
    end: datetime
    trained_through: date
    rows: int
    sha: str
    chosen: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seed:
    """RMSE one hour ahead, in the quote currency, of the system that this one grew from and of "the price stays", over [start, end).

    It forecast `base` alone, in dollars or what is worth one.
    """

    base: str
    rmse: float
    reference_rmse: float
    start: str
    end: str

    def compares(self, about: About) -> bool:
        """Whether a report is of the series that it forecast, and of real bars."""
        return about.symbol.split("/")[0] == self.base and not about.synthetic

    @property
    def start_s(self) -> int:
        """Epoch seconds."""
        return to_epoch(parse_hour(self.start))

    @property
    def end_s(self) -> int:
        """Epoch seconds."""
        return to_epoch(parse_hour(self.end))


SEED = Seed(base="BTC", rmse=1901.0, reference_rmse=447.0, start="2024-06-06", end="2025-06-26")
