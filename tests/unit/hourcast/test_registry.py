"""The reader of MLflow that services share: pages, patience and what it says of a server that is away."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from hourcast.errors import UnavailableError
from hourcast.registry import RegistryReader, tags_of
from tests.answering import Answer, Asked, answering
from tests.ports import find_port


class _Reader(RegistryReader):
    """As a service makes one of it."""

    def _ask(self, path: str, **params: str) -> dict[str, Any] | None:
        body: dict[str, Any] = self._answer(f"/api/2.0/mlflow/{path}", params).json()
        return body

    def numbers(self) -> list[int]:
        return [item["version"] for body in self._listed() for item in body.get("model_versions", [])]


@dataclass
class _Mlflow:
    """MLflow with so many versions, which answers with `failing` first."""

    url: str = ""
    versions: int = 0
    failing: list[int] = field(default_factory=list)
    asked: int = 0

    def answer(self, asked: Asked) -> Answer:
        self.asked += 1
        if self.failing:
            return Answer({}, self.failing.pop(0))
        first, size = int(asked.query.get("page_token", ["0"])[0]), int(asked.query["max_results"][0])
        end = min(first + size, self.versions)
        token = {"next_page_token": str(end)} if end < self.versions else {}
        return Answer({"model_versions": [{"version": v} for v in range(first, end)], **token})


@pytest.fixture
def mlflow() -> Iterator[_Mlflow]:
    """At an address, for as long as the test runs."""
    seen = _Mlflow()
    with answering(seen.answer) as seen.url:
        yield seen


def test_every_page_is_read(mlflow: _Mlflow) -> None:
    """MLflow gives a thousand versions at a time; all are listed, each once."""
    mlflow.versions = 2501
    with _Reader(mlflow.url, "hourcast", 5) as reader:
        assert reader.numbers() == list(range(2501))
    assert mlflow.asked == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_patient_reader_asks_again(mlflow: _Mlflow, status: int) -> None:
    """A server that is busy or at fault twice is asked a third time."""
    mlflow.versions, mlflow.failing = 1, [status, status]
    with _Reader(mlflow.url, "hourcast", 5, attempts=3) as reader:
        assert reader.numbers() == [0]
    assert mlflow.asked == 3


def test_patience_ends(mlflow: _Mlflow) -> None:
    """After the last attempt the server counts as away, and the sentence says what it answered."""
    mlflow.failing = [503] * 4
    told = f"MLflow at {mlflow.url} does not answer (503); check HOURCAST_MLFLOW_URL and that it runs"
    with (
        _Reader(mlflow.url, "hourcast", 5, attempts=3) as reader,
        pytest.raises(UnavailableError, match=f"^{re.escape(told)}$"),
    ):
        reader.numbers()
    assert mlflow.asked == 3


@pytest.mark.parametrize("attempts", [1, 2])
def test_nobody_at_the_address_is_an_outage(attempts: int) -> None:
    """Told with the kind of the failure, and worth asking again in five seconds."""
    url = f"http://127.0.0.1:{find_port()}"
    told = f"MLflow at {url} does not answer (ConnectError); check HOURCAST_MLFLOW_URL and that it runs"
    with (
        _Reader(url + "/", "hourcast", 5, attempts) as reader,
        pytest.raises(UnavailableError, match=f"^{re.escape(told)}$") as refused,
    ):
        reader.numbers()
    assert refused.value.retry_after_s == 5


def test_an_empty_tag_is_a_tag() -> None:
    """MLflow leaves out a value that is empty."""
    assert tags_of({"tags": [{"key": "a", "value": "1"}, {"key": "b"}]}) == {"a": "1", "b": ""}
    assert tags_of({}) == {}
