"""Yahoo, through yfinance."""

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from hourcast.settings import Series
from hourcast_etl.checks import RawBar
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources.retry import Blocked, Retryable, attempt

__all__ = ["YahooSource"]

_PAGE = timedelta(days=59)
_FURTHEST = timedelta(days=728)


class YahooSource:
    """Yahoo's chart interface; hourly bars reach back 730 days."""

    name = "yahoo"
    reach: timedelta | None = _FURTHEST

    def __init__(self, settings: EtlSettings, stop: threading.Event) -> None:
        self._settings, self._stop = settings, stop
        self._session: Any = None

    def _client(self) -> Any:
        """A session that notes each answer's status, and goes to another host when that is set."""
        if self._session is None:
            from curl_cffi import requests

            to = self._settings.yahoo_url

            class Session(requests.Session[Any]):
                last: Any = None

                def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
                    if to is not None:
                        there, here = urlsplit(to), urlsplit(url)
                        url = urlunsplit((there.scheme, there.netloc, here.path, here.query, ""))
                    answer = super().request(method, url, *args, **kwargs)
                    type(self).last = answer
                    return answer

            self._session = Session(impersonate="chrome")
        return self._session

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        """Pages of two months."""
        import pandas as pd
        import yfinance

        logging.getLogger("yfinance").setLevel(logging.CRITICAL)
        yfinance.config.network.retries = 0
        yfinance.config.debug.hide_exceptions = False
        at = max(start, end - _FURTHEST)
        while at < end:
            until = min(at + _PAGE, end)

            def fetch(since: datetime = at, until: datetime = until) -> Any:
                return self._history(yfinance, series.symbol, since, until)

            frame = attempt(
                fetch,
                self.name,
                attempts=self._settings.etl_attempts,
                backoff_s=self._settings.etl_backoff_s,
                longest_wait_s=self._settings.etl_longest_wait_s,
                stop=self._stop,
            )
            if frame is not None and len(frame):
                opens = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("s").asi8
                table = frame[["Open", "High", "Low", "Close", "Volume"]].itertuples(index=False, name=None)
                yield [
                    RawBar(int(o), *row)
                    for o, row in zip(opens, table, strict=True)
                    # Yahoo pads shut hours with rows of nothing.
                    if not all(v != v for v in row[:4])
                ]
            at = until

    def _history(self, yfinance: Any, symbol: str, since: datetime, until: datetime) -> Any:
        session = self._client()
        type(session).last = None
        # yfinance keeps what was answered for a span of the past, errors too: each further attempt would be told the same.
        yfinance.data.YfData.cache_get.cache_clear()
        try:
            return yfinance.Ticker(symbol, session=session).history(
                start=since,
                end=until,
                interval="1h",
                auto_adjust=False,
                actions=False,
                prepost=symbol.startswith("^"),
                timeout=self._settings.etl_timeout_s,
            )
        except Exception as error:  # yfinance lets each of its parts raise what it likes
            status = getattr(type(session).last, "status_code", None)
            after = getattr(type(session).last, "headers", {}).get("Retry-After", "")
            wait = float(after) if str(after).isdigit() else None
            name = type(error).__name__
            if status in (403, 451):
                raise Blocked(f"refuses this place ({status})") from error
            if status in (418, 429) or "RateLimit" in name:
                raise Retryable(f"asks to slow down ({status or 429})", wait) from error
            if name in ("YFPricesMissingError", "YFTzMissingError") and status == 200:
                return None
            if "Timeout" in name or "timed out" in str(error):
                raise Retryable(f"did not answer within {self._settings.etl_timeout_s:g} s") from error
            if "DNS" in name or "Connection" in name or status is None:
                raise Retryable(f"cannot be reached ({name})") from error
            if status >= 400:
                raise Retryable(f"answers {status}", wait) from error
            raise Retryable(f"answers something that is no market data ({name})") from error
