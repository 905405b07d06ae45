"""Files: Hourcast's CSVs and Binance's public monthly kline dumps.

CSV: `datetime,open,high,low,close,volume`, `datetime` being the open in UTC. Binance (data.binance.vision): twelve
columns, with or without a header, zipped or not; open times in milliseconds, in microseconds since 2025.
"""

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from hourcast.contracts import HOUR_S, parse_hour, to_epoch
from hourcast.errors import ConfigurationError, DataError
from hourcast.settings import Series
from hourcast_etl.checks import RawBar
from hourcast_etl.sources._interface import SourceError

__all__ = ["FileSource", "last_close"]

_HEADER = ["datetime", "open", "high", "low", "close", "volume"]
_BINANCE_COLUMNS = 12
_MICROSECONDS = 10**14


def _files(folder: Path, series: Series) -> list[Path]:
    if not folder.is_dir():
        raise ConfigurationError(f"SOURCE=files:{folder}: there is no such folder")
    for pattern in series.files:
        found = sorted(p for p in folder.glob(pattern) if p.suffix in (".csv", ".zip"))
        if found:
            return found
    return []


def _lines(path: Path) -> Iterator[IO[str]]:
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if name.endswith(".csv"):
                        with archive.open(name) as raw:
                            yield io.TextIOWrapper(raw, encoding="utf-8", newline="")
        except zipfile.BadZipFile:
            raise DataError(f"{path.name} is no zip file") from None
        return
    with path.open(encoding="utf-8", newline="") as file:
        yield file


def _parse(path: Path) -> list[RawBar]:
    """Rows of one file.

    Raises:
        DataError: naming file, line and value when a line cannot be understood.
    """
    out: list[RawBar] = []
    for file in _lines(path):
        kind = ""
        for number, row in enumerate(csv.reader(file), 1):
            if not row or (len(row) == 1 and not row[0].strip()):
                continue
            if number == 1 and [c.strip().lower() for c in row[:6]] == _HEADER:
                kind = "hourcast"
                continue
            if number == 1 and len(row) == _BINANCE_COLUMNS and row[0].strip().lower() == "open_time":
                kind = "binance"
                continue
            kind = kind or ("binance" if len(row) == _BINANCE_COLUMNS else "")
            out.append(_row(path, number, row, kind))
    return out


def _row(path: Path, number: int, row: Sequence[str], kind: str) -> RawBar:
    where = f"{path.name}, line {number}"
    if kind == "hourcast":
        if len(row) != len(_HEADER):
            raise DataError(f"{where}: {len(row)} columns where {len(_HEADER)} are expected")
        try:
            return RawBar(to_epoch(parse_hour(row[0])), *row[1:6])
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
    if kind == "binance" and len(row) == _BINANCE_COLUMNS:
        try:
            opened = int(row[0])
        except ValueError:
            raise DataError(f"{where}: open time {row[0]!r} is no number") from None
        return RawBar(opened // (10**6 if opened >= _MICROSECONDS else 10**3), *row[1:6])
    raise DataError(
        f"{where}: neither Hourcast's columns ({','.join(_HEADER)}) nor the {_BINANCE_COLUMNS} of Binance's kline dumps"
    )


class FileSource:
    """A folder of files; parsed ones are kept until they change."""

    name = "files"
    reach: timedelta | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsed: dict[str, tuple[tuple[tuple[str, int, int], ...], list[RawBar]]] = {}

    def _rows(self, series: Series) -> list[RawBar]:
        files = _files(self._folder, series)
        if not files:
            raise SourceError(
                f"files: nothing in {self._folder} matches {' or '.join(series.files) or 'anything'} for {series.symbol}"
            )
        state = tuple((p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in files)
        known = self._parsed.get(series.symbol)
        if known is None or known[0] != state:
            rows = [row for path in files for row in _parse(path)]
            rows.sort(key=lambda r: float(r.open_time))
            self._parsed[series.symbol] = known = (state, rows)
        return known[1]

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        """All rows of the span in one page."""
        from bisect import bisect_left

        try:
            rows = self._rows(series)
        except (DataError, OSError, UnicodeDecodeError, csv.Error) as error:
            raise SourceError(f"files: {error}") from error
        first, last = (bisect_left(rows, to_epoch(t), key=lambda r: int(r.open_time)) for t in (start, end))
        if first < last:
            yield rows[first:last]

    def span(self, series: Series) -> tuple[datetime, datetime]:
        """First open and last close of a series.

        Raises:
            SourceError: when there is nothing.
        """
        rows = self._rows(series)
        return (
            datetime.fromtimestamp(float(rows[0].open_time), UTC),
            datetime.fromtimestamp(float(rows[-1].open_time) + HOUR_S, UTC),
        )


def last_close(folder: Path, series: Series) -> datetime:
    """Close of the newest bar in a folder's files, which is what time it is there.

    Raises:
        ConfigurationError: when the folder or the series' files are not there.
        DataError: when a file cannot be understood.
    """
    try:
        return FileSource(folder).span(series)[1]
    except (SourceError, IndexError) as error:
        raise ConfigurationError(
            f"SOURCE=files:{folder}: {str(error).removeprefix('files: ') or 'the files hold no bars'}"
        ) from None
