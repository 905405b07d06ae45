"""One run: what is new is fetched, checked and written, chunk by chunk, in order of time.

A run that is killed at any line has lost and doubled nothing: chunks are written oldest first, each in one
transaction, and the next run goes on from the newest stored bar, less an overlap.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hourcast.clock import Clock
from hourcast.contracts import HOUR_S, from_epoch, to_epoch
from hourcast.errors import RefusedError
from hourcast.settings import Series
from hourcast.store import Quarantined, Store
from hourcast_etl.checks import RawBar, check
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources import Source, SourceError, source_kind, sources_for
from hourcast_etl.sources.catalogue import no_market_data

__all__ = ["Engine", "RunReport", "SeriesReport"]

_LOG = logging.getLogger("hourcast.etl")
_CONTEXT = 200
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class SeriesReport:
    """What a run did for one series."""

    symbol: str
    source: str = ""
    status: str = "complete"
    fetched: int = 0
    inserted: int = 0
    revised: int = 0
    quarantined: int = 0
    duplicates: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    series: tuple[SeriesReport, ...]

    @property
    def complete(self) -> bool:
        """Whether every series got all that there is."""
        return all(s.status == "complete" for s in self.series)

    @property
    def reason(self) -> str:
        """Why it is not complete."""
        return "; ".join(r for s in self.series if s.status != "complete" for r in s.reasons)


class Engine:
    """Runs the ETL; keep one for many runs, so that sources keep their connections and parsed files."""

    def __init__(
        self, settings: EtlSettings, store: Store, clock: Clock, stop: threading.Event | None = None
    ) -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self._stop = stop or threading.Event()
        self._sources = sources_for(settings, self._stop)

    def run(
        self,
        symbols: tuple[str, ...] = (),
        span: tuple[datetime, datetime] | None = None,
        progress: Progress = lambda _symbol, _done, _total: None,
    ) -> RunReport:
        """Fetch what is new of each series, or all of `span` again.

        Raises:
            RefusedError: when the store holds bars of another kind of source.
            UnavailableError: when the store does not answer.
        """
        now = self._clock.now()
        stored = {f.symbol: f for f in self._store.freshness()}
        self._refuse_mixing(f.source for f in stored.values() if f.source)
        reports = []
        for series in self._settings.series:
            if symbols and series.symbol not in symbols:
                continue
            newest = stored[series.symbol].last_close if series.symbol in stored else None
            start, end = span or (self._start(newest, now), now)
            reports.append(self._one(series, start, min(end, now), now, progress))
        return RunReport(tuple(reports))

    def _refuse_mixing(self, names: Iterator[str]) -> None:
        wanted = "live" if self._settings.source == "live" else self._settings.source.split(":")[0]
        for name in names:
            if source_kind(name) != wanted:
                raise RefusedError(
                    f"the store holds bars of {source_kind(name)!r}, and SOURCE={self._settings.source} would mix others "
                    "among them; run `make clean-state`, or set HOURCAST_STATE_DIR to another folder"
                )

    def _start(self, newest: datetime | None, now: datetime) -> datetime:
        if newest is not None:
            return newest - timedelta(hours=self._settings.etl_overlap_bars)
        if self._settings.source.startswith("files:"):
            return datetime(1970, 1, 2, tzinfo=UTC)
        return (now - timedelta(days=self._settings.etl_days)).replace(minute=0, second=0, microsecond=0)

    def _one(
        self, series: Series, start: datetime, end: datetime, now: datetime, progress: Progress
    ) -> SeriesReport:
        report = SeriesReport(series.symbol)
        choices = self._sources[series.provider]
        run_id: int | None = None
        for source in choices:
            report.source = source.name
            try:
                for rows in self._chunks(source, series, start, end):
                    if run_id is None:
                        run_id = self._store.begin_ingest(series.symbol, source.name, now)
                    last = self._write(series, source.name, rows, now, report)
                    start = max(start, last)
                    progress(
                        series.symbol,
                        report.fetched,
                        max(report.fetched, (to_epoch(end) - to_epoch(start)) // HOUR_S),
                    )
                    self._store.update_ingest(
                        run_id, source=source.name, fetched=report.fetched, inserted=report.inserted,
                        revised=report.revised, quarantined=report.quarantined,
                    )  # fmt: skip
            except SourceError as error:
                report.reasons.append(str(error))
                _LOG.warning("%s: %s", series.symbol, error)
                continue
            report.status = "complete"
            break
        else:
            report.status = "partial"
        # A turn that found nothing new leaves no row: an hourly watch would bury the runs that did something.
        if run_id is None and report.status == "partial":
            run_id = self._store.begin_ingest(series.symbol, report.source, now)
        if run_id is not None:
            reason = "; ".join(report.reasons) or None
            if report.status == "partial" and self._settings.source == "live":
                reason = no_market_data(reason or "")
            self._store.update_ingest(
                run_id, status=report.status, ended_at=self._clock.now(), reason=reason, source=report.source
            )
        return report

    def _chunks(
        self, source: Source, series: Series, start: datetime, end: datetime
    ) -> Iterator[list[RawBar]]:
        size = self._settings.etl_chunk_bars
        for page in source.pages(series, start, end):
            # A page may be out of order; across pages and chunks time goes forward.
            rows = sorted(page, key=lambda r: r.open_time if isinstance(r.open_time, int | float) else 0)
            for first in range(0, len(rows), size):
                # One row more, so that a jump at a chunk's end can be confirmed.
                yield rows[first : first + size + 1]

    def _write(
        self, series: Series, source: str, rows: list[RawBar], now: datetime, report: SeriesReport
    ) -> datetime:
        times = [
            int(r.open_time)
            for r in rows
            if isinstance(r.open_time, int | float) and r.open_time == r.open_time
        ]
        first = min(times, default=to_epoch(now))
        before = self._store.read_bars(series.symbol, end=from_epoch(first), last=_CONTEXT).close.tolist()
        checked = check(
            series.symbol, rows, now_s=to_epoch(now), on_the_hour=series.provider == "ccxt", before=before
        )
        written = self._store.upsert_bars(checked.bars, source, now)
        new = [r for r in checked.rejected if r.open_time.timestamp() > 0]
        if new:
            self._store.quarantine(
                [Quarantined(series.symbol, r.open_time, r.reason[:255], r.row, source, now) for r in new]
            )
            for r in new:
                _LOG.warning(
                    "%s %s goes into quarantine: %s", series.symbol, r.open_time.isoformat(), r.reason
                )
        if len(checked.bars):
            # What was doubted and is now confirmed, or sent again whole, needs no quarantine any more.
            self._store.leave_quarantine(series.symbol, [from_epoch(t) for t in checked.bars.open_time])
        report.fetched += min(len(rows), self._settings.etl_chunk_bars)
        report.inserted += written.inserted
        report.revised += written.revised
        report.quarantined += len(checked.rejected)
        report.duplicates += checked.duplicates
        return from_epoch(max(times, default=to_epoch(now)))
