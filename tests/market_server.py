"""A local server that answers as Binance and Yahoo do, from recorded answers and recorded bars, with faults on order."""

import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from datetime import time as clock_time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hourcast.contracts import HOUR_S, Bars

_NEW_YORK = ZoneInfo("America/New_York")
_HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>checking</body></html>"


class MarketServer:
    """Answers klines and charts. `faults` are used up one a request, first those for its part.

    Faults: a status number, `429:5` (with Retry-After), `html`, `truncated`, `empty`, `shuffled`, `slow`, `drop`,
    `newest:720` (of the klines the newest alone).
    """

    def __init__(self, bars: Mapping[str, Bars], fixtures: Path) -> None:
        self.bars = dict(bars)
        self.faults: dict[str, deque[str]] = {"info": deque(), "klines": deque(), "chart": deque()}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.slow_s = 2.0
        self._info = (fixtures / "binance_exchangeInfo_3symbols.json").read_bytes()
        hourly = fixtures / "yahoo_chart-TSLA-2025-01-01-to-2025-01-02-interval-1h.fake.json"
        self._chart = json.loads(hourly.read_text())["response"]["bodyJson"]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that http.server uses
                """Requests are kept in `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query))
        part = "info"
        if "klines" in parts.path:
            part = "klines"
        elif "/chart/" in parts.path:
            part = "chart"
        fault = self.faults[part].popleft() if self.faults[part] else ""
        name, _, after = fault.partition(":")
        if name.isdigit():
            body = b'{"code": -1003, "msg": "Too much request weight used"}'
            if name not in ("418", "429"):
                body = b'{"code": 0, "msg": "Service unavailable from a restricted location"}'
            return self._send(request, int(name), body, {"Retry-After": after} if after else {})
        if name == "slow":
            time.sleep(self.slow_s)
        if name == "drop":
            request.close_connection = True
            request.connection.close()
            return None
        if name == "html":
            return self._send(request, 200, _HTML, kind="text/html")
        if part == "info":
            known = "exchangeInfo" in parts.path
            body = self._info if known else b"{}" if "test" not in parts.path else b"crumb"
        elif part == "klines":
            body = json.dumps(self._klines(query, name, int(after or 0))).encode()
        else:
            body = json.dumps(self._chart_of(unquote(parts.path.rsplit("/", 1)[1]), query, name)).encode()
        if name == "truncated":
            body = body[: max(1, len(body) // 2)]
        return self._send(request, 200, body)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        try:
            request.send_response(status)
            for key, value in {
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                **(headers or {}),
            }.items():
                request.send_header(key, value)
            request.end_headers()
            request.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            request.close_connection = True

    def _klines(self, query: Mapping[str, str], fault: str, newest: int) -> list[list[Any]]:
        bars = self.bars["BTC/USDT"]
        limit = min(int(query.get("limit", 500)), 1000)
        if "startTime" in query:
            first = int(np.searchsorted(bars.open_time * 1000, int(query["startTime"])))
            if fault == "newest":
                first = max(first, len(bars) - newest)
            part = bars.take(slice(first, first + limit))
        else:
            part = bars.take(slice(len(bars) - limit, len(bars)))
        if fault == "empty":
            return []
        rows: list[list[Any]] = [
            [
                int(t) * 1000, *(f"{v:.8f}" for v in prices), (int(t) + HOUR_S) * 1000 - 1, "0", 1, "0", "0", "0",
            ]
            for t, *prices in zip(part.open_time, part.open, part.high, part.low, part.close, part.volume, strict=True)
        ]  # fmt: skip
        if fault == "shuffled":
            rows.reverse()
        return rows

    def _chart_of(self, symbol: str, query: Mapping[str, str], fault: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(json.dumps(self._chart))
        result = body["chart"]["result"][0]
        result["meta"] |= {
            "symbol": symbol,
            "dataGranularity": "1h",
            "instrumentType": "INDEX" if "^" in symbol else "ETF",
        }
        bars = self.bars[symbol]
        if "period1" in query:
            part = bars.between(int(query["period1"]), int(query["period2"]))
        else:
            part = bars.take(slice(max(0, len(bars) - 5), len(bars)))
        if fault == "empty":
            part = part.take(slice(0, 0))
        result["meta"]["tradingPeriods"] = _trading_periods(symbol, part)
        result["timestamp"] = part.open_time.tolist()
        quote = {name: getattr(part, name).tolist() for name in ("open", "high", "low", "close", "volume")}
        if fault == "shuffled":
            result["timestamp"].reverse()
            for column in quote.values():
                column.reverse()
        result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": quote["close"]}]}
        if not len(part):
            result.pop("timestamp")
            result["indicators"] = {"quote": [{}], "adjclose": [{}]}
        return body


def _trading_periods(symbol: str, bars: Bars) -> Any:
    """Each day's session as Yahoo tells it: lists of the regular one, and of all three for an index."""
    days = sorted({datetime.fromtimestamp(int(t), _NEW_YORK).date() for t in bars.open_time})

    def listed(first: clock_time, last: clock_time) -> list[list[dict[str, Any]]]:
        return [
            [
                {
                    "timezone": "EST", "gmtoffset": -18000,
                    "start": int(datetime.combine(day, first, _NEW_YORK).timestamp()),
                    "end": int(datetime.combine(day, last, _NEW_YORK).timestamp()),
                }
            ]
            for day in days
        ]  # fmt: skip

    if symbol.startswith("^"):
        return {
            "pre": listed(clock_time(3), clock_time(9, 30)),
            "regular": listed(clock_time(9, 30), clock_time(16, 15)),
            "post": listed(clock_time(16, 15), clock_time(16, 15)),
        }
    if symbol.endswith("=F"):
        return listed(clock_time(0), clock_time(23, 59))
    return listed(clock_time(9, 30), clock_time(16))


@pytest.fixture
def market(market_bars: dict[str, Bars], fixtures_dir: Path) -> Iterator[MarketServer]:
    """A market server with the recorded bars."""
    server = MarketServer(market_bars, fixtures_dir)
    yield server
    server.close()
