"""What the controller reads in MLflow's registry."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from hourcast.contracts import CHAMPION_EVIDENCE, parse_moment, version_number
from hourcast.errors import UnavailableError
from hourcast.registry import RegistryReader, tags_of
from hourcast_controller.policy import RegistryState, VersionFacts

__all__ = ["Registry", "proof_of"]

_NEWEST, _ALL_NEWEST = 20, 200
_ALL_EVERY_S = 60.0


class Registry(RegistryReader):
    """Reads aliases and versions of one model. Close it when done."""

    def __init__(self, url: str, model: str, timeout_s: float = 5.0) -> None:
        super().__init__(url, model, timeout_s)
        self._facts: dict[int, VersionFacts] = {}
        self._newest: dict[int, VersionFacts] = {}
        self._all_read_s: float | None = None

    def _ask(self, path: str, **params: str) -> dict[str, Any] | None:
        """One answer, or None where MLflow says that the thing does not exist."""
        answer = self._answer(f"/api/2.0/mlflow/{path}", params)
        try:
            body = answer.json()
        except ValueError as error:
            raise self._away(type(error).__name__) from error
        if isinstance(body, dict) and body.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
            return None
        if answer.status_code != 200 or not isinstance(body, dict):
            raise UnavailableError(f"MLflow at {self._url} answers {answer.status_code}", retry_after_s=5)
        return body

    def read(self) -> RegistryState:
        """Aliases, the versions behind them and the newest 200 besides; empty when there is no model yet.

        Raises:
            UnavailableError: when any part of the answer is missing.
        """
        body = self._ask("registered-models/get", name=self._model)
        if body is None:
            return RegistryState({}, {})
        with self._understood():
            listed = body["registered_model"].get("aliases", [])
            aliases = {item["alias"]: int(item["version"]) for item in listed}
        versions = dict(self._read_newest())
        for number in sorted(set(aliases.values()) - set(versions)):
            versions[number] = self.version(number)
        return RegistryState(aliases, versions)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """An answer without what MLflow always gives is that of something else at this address."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnavailableError(
                f"MLflow at {self._url} gives an answer that is not MLflow's ({error!r:.80}); check HOURCAST_MLFLOW_URL",
                retry_after_s=5,
            ) from None

    def _read_newest(self) -> dict[int, VersionFacts]:
        """The newest versions: twenty at each look, all 200 once a minute, which is when deleted ones are noticed."""
        now_s = time.monotonic()
        everything = self._all_read_s is None or now_s - self._all_read_s >= _ALL_EVERY_S
        body = self._ask(
            "model-versions/search",
            filter=f"name='{self._model}'",
            max_results=str(_ALL_NEWEST if everything else _NEWEST),
            order_by="version_number DESC",
        )
        with self._understood():
            found = {facts.version: facts for facts in map(_facts, (body or {}).get("model_versions", []))}
        for facts in found.values():
            self._remember(facts)
        if everything:
            self._newest, self._all_read_s = found, now_s
        else:
            self._newest = {**self._newest, **found}
        return self._newest

    def _remember(self, facts: VersionFacts) -> None:
        if facts.gate in ("passed", "failed") and facts.misread is None:
            self._facts[facts.version] = facts

    def version(self, number: int) -> VersionFacts:
        """What the registry says about a version; remembered once its gate has decided."""
        known = self._facts.get(number)
        if known is not None:
            return known
        body = self._ask("model-versions/get", name=self._model, version=str(number))
        if body is None:
            raise UnavailableError(
                f"version {number} of {self._model} vanished while the registry was read", 1
            )
        with self._understood():
            facts = _facts(body["model_version"])
        self._remember(facts)
        return facts

    def champion_evidence(self, number: int) -> dict[str, Any] | None:
        """The proof by which a version became champion, if it carries one, read anew: it is tagged long after the gate.

        Raises:
            UnavailableError: when MLflow does not answer.
        """
        body = self._ask("model-versions/get", name=self._model, version=str(number))
        if body is None:
            return None
        with self._understood():
            return proof_of(tags_of(body["model_version"]).get(CHAMPION_EVIDENCE, ""))

    def numbers(self) -> list[int]:
        """Every version of the model."""
        found: list[int] = []
        for body in self._listed():
            with self._understood():
                found += [int(item["version"]) for item in body.get("model_versions", [])]
        return sorted(found)


def _facts(item: dict[str, Any]) -> VersionFacts:
    tags = tags_of(item)
    misread = None
    # The packager needs both for the index; a version that is being registered may lack them for a moment.
    for name, read in (("trained_through", date.fromisoformat), ("decided_at", parse_moment)):
        try:
            if tags.get(name):
                read(tags[name])
        except ValueError:
            misread = f"its tag {name} cannot be understood: {tags[name][:80]!r}"
    return VersionFacts(
        version=int(item["version"]),
        run_id=item.get("run_id") or "",
        kind=tags.get("kind", "unknown"),
        gate=tags.get("gate", "unknown"),
        stage=tags.get("stage", "unknown"),
        misread=misread,
    )


def proof_of(text: str) -> dict[str, Any] | None:
    """The proof that a tag holds; None where it holds none that can be understood and stored."""
    try:
        found = json.loads(text)
        # A store takes neither what is no number nor half a character.
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("reason"), str):
        return None
    for name in ("challenger", "champion"):
        number = found.get(name)
        if number is not None and (type(number) is not int or version_number(str(number)) is None):
            return None
    return found if isinstance(found.get("decided_at", ""), str) else None
