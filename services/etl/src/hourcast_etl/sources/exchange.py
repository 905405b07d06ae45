"""Exchanges, through ccxt."""

import logging
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from hourcast.contracts import HOUR_S, to_epoch
from hourcast.settings import Series
from hourcast_etl.checks import RawBar
from hourcast_etl.settings import EtlSettings
from hourcast_etl.sources._interface import SourceError
from hourcast_etl.sources.retry import Blocked, Retryable, attempt

__all__ = ["ExchangeSource"]

_PAGE = 1000
_EMPTY_LIMIT = 3
# Dollars stand in for tether where an exchange lists the pair in dollars only.
_TWINS = {"USDT": "USD"}


def _redirect(value: Any, to: str) -> Any:
    """The same addresses at another host."""
    if isinstance(value, dict):
        return {key: _redirect(part, to) for key, part in value.items()}
    if isinstance(value, str) and value.startswith("http"):
        there, here = urlsplit(to), urlsplit(value)
        return urlunsplit((there.scheme, there.netloc, here.path, here.query, ""))
    return value


class ExchangeSource:
    """One exchange."""

    def __init__(self, exchange: str, settings: EtlSettings, stop: threading.Event) -> None:
        self.name = exchange
        self.reach: timedelta | None = None
        self._settings, self._stop = settings, stop
        self._client: Any = None

    def _ccxt(self) -> Any:
        if self._client is None:
            import ccxt

            logging.getLogger("ccxt").setLevel(logging.WARNING)
            make = getattr(ccxt, self.name, None)
            if make is None:
                raise SourceError(f"{self.name}: ccxt knows no such exchange; see HOURCAST_EXCHANGES")
            client = make(
                {
                    "enableRateLimit": True,
                    "timeout": int(self._settings.etl_timeout_s * 1000),
                    # Spot markets are all that is needed; the others cost four more requests.
                    "options": {
                        "fetchMarkets": {"types": ["spot"]},
                        "fetchCurrencies": False,
                        "defaultType": "spot",
                    },
                }
            )
            client.has["fetchCurrencies"] = False
            if self._settings.exchange_url is not None:
                client.urls["api"] = _redirect(client.urls["api"], self._settings.exchange_url)
            self._client = client
        return self._client

    def _retrying(self, work: Any) -> Any:
        s = self._settings
        return attempt(
            lambda: self._translated(work),
            self.name,
            attempts=s.etl_attempts,
            backoff_s=s.etl_backoff_s,
            longest_wait_s=s.etl_longest_wait_s,
            stop=self._stop,
        )

    def _translated(self, work: Any) -> Any:
        """Ccxt's errors as ours: which to try again, when, and which not."""
        import ccxt

        client = self._ccxt()
        client.last_response_headers = None
        try:
            return work()
        except (ccxt.DDoSProtection, ccxt.RateLimitExceeded) as error:
            raise Retryable(f"asks to slow down ({_short(error)})", self._retry_after()) from error
        except ccxt.RequestTimeout as error:
            raise Retryable(f"did not answer within {self._settings.etl_timeout_s:g} s") from error
        except (ccxt.BadSymbol, ccxt.NotSupported, ccxt.AuthenticationError) as error:
            raise Blocked(_short(error)) from error
        except (ccxt.NetworkError, ccxt.ExchangeError) as error:
            if " 451 " in f" {error} " or " 403 " in f" {error} ":
                raise Blocked(f"refuses this place ({_short(error)})") from error
            raise Retryable(_short(error), self._retry_after()) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            # HTML or half a JSON document surfaces as whatever ccxt's parser stumbles over.
            raise Retryable(f"answers something that is no market data ({type(error).__name__})") from error

    def _retry_after(self) -> float | None:
        headers = self._ccxt().last_response_headers or {}
        for key, value in dict(headers).items():
            if key.lower() == "retry-after" and str(value).strip().isdigit():
                return float(value)
        return None

    def _symbol(self, wanted: str) -> str:
        markets = self._retrying(lambda: self._ccxt().load_markets())
        base, _, quote = wanted.partition("/")
        for name in (wanted, f"{base}/{_TWINS.get(quote, quote)}"):
            if name in markets:
                return name
        raise SourceError(f"{self.name}: has no market {wanted}")

    def reachable(self, series: Series) -> None:
        """One small request.

        Raises:
            SourceError: when it fails.
        """
        symbol = self._symbol(series.symbol)
        self._retrying(lambda: self._ccxt().fetch_ohlcv(symbol, "1h", limit=2))

    def pages(self, series: Series, start: datetime, end: datetime) -> Iterator[list[RawBar]]:
        """Pages of klines from `start` on."""
        symbol = self._symbol(series.symbol)
        at, last = to_epoch(start), to_epoch(end)
        empty = 0
        while at < last:
            since = at

            def fetch(since: int = since) -> Any:
                rows = self._ccxt().fetch_ohlcv(symbol, "1h", since=since * 1000, limit=_PAGE)
                if not isinstance(rows, list):
                    raise Retryable("answers something that is no list of bars")
                return rows

            found = self._retrying(fetch)
            rows = [
                RawBar(r[0] / 1000 if isinstance(r[0], int | float) else r[0], *r[1:6])
                for r in found
                if len(r) >= 6
            ]
            times = [int(r.open_time) for r in rows if isinstance(r.open_time, float) and r.open_time < last]
            if not times or max(times) < at:
                # An empty page amid history is a fault once, and a hole of the exchange when it stays.
                empty += 1
                if last - at <= 2 * HOUR_S:
                    return
                if empty >= _EMPTY_LIMIT:
                    raise SourceError(
                        f"{self.name}: gives no bars from {series.symbol} {since} s on, {empty} times"
                    )
                if self._stop.wait(self._settings.etl_backoff_s * empty):
                    raise SourceError(f"{self.name}: stopped")
                continue
            empty = 0
            yield [r for r in rows if not isinstance(r.open_time, float) or r.open_time < last]
            at = max(times) + HOUR_S


def _short(error: BaseException) -> str:
    """The gist of a client's message: no URL, no page of HTML."""
    words = [w for w in str(error).split() if "://" not in w]
    text = " ".join(words).split("<")[0].strip()
    # ccxt says no more than "binance GET" when no connection came about.
    return text[:120] if len(words) > 2 else f"cannot be reached ({type(error).__name__})"
