"""Serving's HTTP, as the dashboard asks it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

__all__ = ["Api", "ApiError"]


class ApiError(Exception):
    """The API did not give what was asked for; the message is a sentence for the page."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API. Every method raises `ApiError`."""

    url: str
    timeout_s: float

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """A JSON answer; arguments that are None are left out."""
        answer = self._ask(path, params)
        try:
            body = answer.json()
        except ValueError:
            raise ApiError(f"The API at {self.url} does not answer. Is it running?") from None
        if not isinstance(body, dict):
            raise ApiError(f"The API at {self.url} answers {path} with something unexpected.")
        if answer.status_code != 200:
            raise ApiError(sentence(str(body.get("detail", f"answer {answer.status_code}"))))
        return body

    def page(self, path: str) -> str:
        """An HTML page."""
        answer = self._ask(path, {})
        if answer.status_code == 200 and answer.headers.get("Content-Type", "").startswith("text/html"):
            return answer.text
        try:
            told = str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            told = f"answer {answer.status_code}"
        raise ApiError(sentence(told))

    def _ask(self, path: str, params: Mapping[str, Any]) -> httpx.Response:
        asked = {
            k: v.isoformat() if isinstance(v, datetime) else v for k, v in params.items() if v is not None
        }
        try:
            return httpx.get(self.url + path, params=asked, timeout=self.timeout_s, trust_env=False)
        except httpx.TimeoutException:
            raise ApiError(f"The API at {self.url} did not answer within {self.timeout_s:g} s.") from None
        except httpx.HTTPError:
            raise ApiError(f"The API at {self.url} does not answer. Is it running?") from None


def sentence(text: str) -> str:
    """A message of the API as a sentence of the page."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
