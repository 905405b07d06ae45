"""One run: what is new is fetched, checked and written, chunk by chunk, in order of time.

A run that is killed at any line has lost and doubled nothing: chunks are written oldest first, each in one
transaction, and the next run goes on from the newest stored bar, less an overlap. Hours are closed when every
series has been asked, from what is stored by then.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hourcast.clock import Clock
from hourcast.contracts import HOUR_S, from_epoch, to_epoch
from hourcast.errors import RefusedError, UnavailableError
from hourcast.settings import Series
from hourcast.store import Freshness, Hour, Quarantined, Store
from hourcast_etl.checks import RawBar, check
from hourcast_etl.closing import CATCH_UP_H, Standing, closing, hours_to_close, lacking, owes
from hourcast_etl.hours import expected_opens
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources import PROVIDERS, Source, SourceError, source_kind, sources_for
from hourcast_etl.sources.catalogue import no_market_data

__all__ = ["Engine", "RunReport", "SeriesReport"]

_LOG = logging.getLogger("hourcast.etl")
_CONTEXT = 200
# An exchange may have lost hours of long ago; that is no head that is missing.
_HEAD_SLACK = 24
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
    failed: bool = False
    """Whether no source gave what is new."""
    looked_at: bool = True
    """Whether it is the target or a series that models look at."""
    first: datetime | None = None
    """When the first of its stored bars opens."""
    run_id: int | None = None
    """Its row in `ingest_runs`, once there is one."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did."""

    series: tuple[SeriesReport, ...]
    closed: tuple[Hour, ...] = ()
    lacking: tuple[str, ...] = ()
    """Symbols that were asked, and whose bar keeps the newest hour open and may come yet."""
    deadline: datetime | None = None
    """When that hour is closed without them, but for the target; None where nothing is awaited."""

    @property
    def complete(self) -> bool:
        """Whether every series that models look at got all that was asked for."""
        return not self._lost

    @property
    def failed(self) -> bool:
        """Whether the sources of such a series did not give what is new, so that it is soon worth another look."""
        return any(s.failed for s in self._lost)

    @property
    def reason(self) -> str:
        """Why it is not complete."""
        return "; ".join(r for s in self._lost for r in s.reasons)

    @property
    def _lost(self) -> list[SeriesReport]:
        return [s for s in self.series if s.looked_at and s.status != "complete"]


class Engine:
    """Runs the ETL; keep one for many runs, so that sources keep their connections and parsed files."""

    def __init__(
        self, settings: EtlSettings, store: Store, clock: Clock, stop: threading.Event | None = None
    ) -> None:
        self._settings, self._store, self._clock = settings, store, clock
        self._stop = stop or threading.Event()
        self._sources = sources_for(settings, self._stop)
        self._heads_asked: dict[tuple[str, str], datetime] = {}

    def run(
        self,
        symbols: tuple[str, ...] = (),
        span: tuple[datetime, datetime] | None = None,
        progress: Progress = lambda _symbol, _done, _total: None,
    ) -> RunReport:
        """Fetch what is new of each series, or all of `span` again; then close the hours that can be closed.

        Raises:
            RefusedError: when the store holds bars of another kind of source.
            UnavailableError: when the store does not answer.
        """
        now = self._clock.now()
        stored = {f.symbol: f for f in self._store.freshness(s.symbol for s in self._settings.series)}
        self._refuse_mixing(f.source for f in stored.values() if f.source)
        reports = []
        for series in self._settings.series:
            if symbols and series.symbol not in symbols:
                continue
            reports.append(self._one(series, stored.get(series.symbol), span, now, progress))
        if span is not None:
            return RunReport(tuple(reports))
        return RunReport(tuple(reports), *self._close(now, {r.symbol for r in reports}))

    def _close(
        self, now: datetime, asked: set[str]
    ) -> tuple[tuple[Hour, ...], tuple[str, ...], datetime | None]:
        """Close what can be closed of the hours that had ended at `now`; what of a report follows from it."""
        model, target = self._settings.model_name, self._settings.target
        opens = expected_opens(target, now - timedelta(hours=CATCH_UP_H), now)
        closes = opens[opens + HOUR_S <= to_epoch(now)] + HOUR_S
        newest = self._store.newest_hour(model, now)
        todo = hours_to_close(closes, None if newest is None else to_epoch(newest.hour))
        # What is not in files or a sample now will not come with time, nor by a clock that is moved.
        waits = self._settings.source == "live" and self._settings.clock == "wall"
        deadline_s = self._settings.hour_deadline_s if waits else 0.0
        closed: list[Hour] = []
        missing: tuple[str, ...] = ()
        for hour_s in todo.tolist():
            hour, at = from_epoch(hour_s), self._clock.now()
            series = self._standing(hour, asked)
            states = closing(hour_s, at.timestamp(), series, deadline_s)
            missing = () if states else lacking(hour_s, series)
            if states is not None:
                record = Hour(model, hour, at, datetime.now(UTC), states)
                if self._store.close_hour(record):
                    closed.append(record)
        awaited = tuple(symbol for symbol in missing if symbol in asked) if waits else ()
        return tuple(closed), awaited, from_epoch(todo[-1] + deadline_s) if awaited else None

    def _standing(self, hour: datetime, asked: set[str]) -> list[Standing]:
        bars = self._store.read_many((s.symbol for s in self._settings.series), known_at=hour, last=1)
        out = []
        for series in self._settings.series:
            newest = bars[series.symbol].close_time
            opens = expected_opens(series, hour - timedelta(hours=2), hour)
            out.append(
                Standing(
                    series.symbol,
                    series.role == "target",
                    owes(opens, to_epoch(hour)),
                    int(newest[-1]) if len(newest) else None,
                    series.symbol in asked,
                )
            )
        return out

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
        self,
        series: Series,
        stored: Freshness | None,
        span: tuple[datetime, datetime] | None,
        now: datetime,
        progress: Progress,
    ) -> SeriesReport:
        looked_at = series.role == "target" or series.symbol in self._settings.feature_series
        report = SeriesReport(
            series.symbol, looked_at=looked_at, first=stored.first_open if stored is not None else None
        )
        start, end = span or (self._start(stored.last_close if stored is not None else None, now), now)
        sources = self._sources[series.provider]
        for source in sources:
            start, done = self._fetch(source, series, start, min(end, now), now, report, progress)
            if done:
                break
        else:
            report.status, report.failed = "partial", True
        if span is None and self._settings.source == "live" and report.first is not None:
            fresh = report.source if stored is None else None
            self._fill_head([s for s in sources if s.name != fresh], series, now, report, progress)
        # A turn that found nothing new leaves no row: an hourly watch would bury the runs that did something.
        if report.run_id is None and report.status == "partial":
            report.run_id = self._store.begin_ingest(series.symbol, report.source, now)
        if report.run_id is not None:
            reason = "; ".join(report.reasons) or None
            if report.failed and self._settings.source == "live":
                reason = no_market_data(reason or "")
            self._store.update_ingest(
                report.run_id,
                status=report.status,
                ended_at=self._clock.now(),
                reason=reason,
                source=report.source,
            )
        return report

    def _fetch(
        self,
        source: Source,
        series: Series,
        start: datetime,
        end: datetime,
        now: datetime,
        report: SeriesReport,
        progress: Progress,
    ) -> tuple[datetime, bool]:
        """Write what one source gives of a span; where the next one has to begin, and whether it need not."""
        report.source = source.name
        try:
            for rows in self._chunks(source, series, start, end):
                if report.run_id is None:
                    report.run_id = self._store.begin_ingest(series.symbol, source.name, now)
                start = max(start, self._write(series, source.name, rows, now, report))
                progress(
                    series.symbol,
                    report.fetched,
                    max(report.fetched, (to_epoch(end) - to_epoch(start)) // HOUR_S),
                )
                self._store.update_ingest(
                    report.run_id, source=source.name, fetched=report.fetched, inserted=report.inserted,
                    revised=report.revised, quarantined=report.quarantined,
                )  # fmt: skip
        except SourceError as error:
            report.reasons.append(str(error))
            _LOG.warning("%s: %s", series.symbol, error)
            return start, False
        except UnavailableError:
            raise
        except Exception as error:  # a client lets each of its parts raise what it likes
            if report.looked_at:
                raise
            # What nobody looks at must not cost the others their bars.
            report.reasons.append(f"{source.name}: {type(error).__name__}: {error}"[:200])
            _LOG.warning("%s: %s", series.symbol, report.reasons[-1])
            return start, False
        return start, True

    def _fill_head(
        self,
        sources: Sequence[Source],
        series: Series,
        now: datetime,
        report: SeriesReport,
        progress: Progress,
    ) -> None:
        """Fetch what is missing before the first stored bar; the series is partial when no source has it.

        An exchange may give its newest bars alone, and the one that is asked first may have been away at the first load.
        """
        wanted = self._start(None, now)
        reaches = [source.reach for source in self._sources[series.provider]]
        if all(reach is not None for reach in reaches):
            wanted = max(wanted, now - max(reach for reach in reaches if reach is not None))
        answered = report.source
        for source in sources:
            if self._missing(series, wanted, report) <= _HEAD_SLACK:
                break
            key, hour = (series.symbol, source.name), now.replace(minute=0, second=0, microsecond=0)
            # What it had not a minute ago it need not be asked for at every look of a watch.
            if self._heads_asked.get(key) == hour:
                continue
            self._heads_asked[key] = hour
            assert report.first is not None
            self._fetch(source, series, wanted, report.first, now, report, progress)
        report.source = answered
        missing = self._missing(series, wanted, report)
        if missing > _HEAD_SLACK:
            report.status = "partial"
            report.reasons.append(
                f"{series.symbol} lacks {missing:,} hours before {report.first:%Y-%m-%d %H:%M} UTC, which no source gave; "
                f"bars from {wanted:%Y-%m-%d} on are asked for (HOURCAST_ETL_DAYS={self._settings.etl_days})"
            )

    @staticmethod
    def _missing(series: Series, wanted: datetime, report: SeriesReport) -> int:
        """Bars that are owed before the first stored one."""
        assert report.first is not None
        return len(expected_opens(series, wanted, report.first)) if wanted < report.first else 0

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
            series.symbol,
            rows,
            now_s=to_epoch(now),
            on_the_hour=PROVIDERS[series.provider].on_the_hour,
            before=before,
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
            opened = from_epoch(int(checked.bars.open_time[0]))
            report.first = opened if report.first is None else min(report.first, opened)
            # What was doubted and is now confirmed, or sent again whole, needs no quarantine any more.
            self._store.leave_quarantine(series.symbol, [from_epoch(t) for t in checked.bars.open_time])
        report.fetched += min(len(rows), self._settings.etl_chunk_bars)
        report.inserted += written.inserted
        report.revised += written.revised
        report.quarantined += len(checked.rejected)
        report.duplicates += checked.duplicates
        return from_epoch(max(times, default=to_epoch(now)))
