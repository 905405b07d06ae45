"""How the champion got where it is: by proof, or by hand. Pure.

Whoever makes a version champion by proof leaves that proof at the version before it moves the alias; a proof names
whom it was against. So moves that nobody watched can be told one by one, and what no proof leads to was done by hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hourcast.decisions import Decision, DecisionKind

__all__ = ["MOVED", "Move", "evidence_in_words", "moves"]

MOVED: DecisionKind = "champion_moved"
_MOST_UNSEEN = 100
Evidence = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """The champion became `version`; None where nobody is champion any more."""

    version: int | None
    reason: str
    evidence: Evidence


def moves(
    version: int | None,
    before: int | None,
    evidence_of: Callable[[int], Evidence | None],
    events: Sequence[Decision],
) -> list[Move]:
    """What happened since the champion was last written down, the oldest first.

    Args:
        version: the champion now.
        before: the champion when it was last written down; None where it never was, or there was none.
        evidence_of: the proof that a version carries, if it does.
        events: the decisions, the newest first.
    """
    by_hand = {"by_hand": True, "before": before}
    if version is None:
        return [Move(None, "the alias was removed by hand: no version is champion", by_hand)]
    found = evidence_of(version)
    never = not any(e.kind == MOVED for e in events)
    led = list(_led(version, before, evidence_of, events, never))
    if led:
        return [Move(number, str(proof["reason"]), dict(proof)) for number, proof in reversed(led)]
    if found is None:
        if never:
            return [Move(version, "found as champion, no evidence", by_hand)]
        told = f"moved by hand from version {before}" if before is not None else "set by hand"
        return [Move(version, f"{told}, no evidence", by_hand)]
    rival = found.get("champion")
    told = f"moved by hand from version {before}" if before is not None else "set by hand"
    against = f"against version {rival}, of " if rival is not None else "of "
    words = f"{told}; its evidence is an earlier one, {against}{str(found.get('decided_at'))[:10]}"
    return [Move(version, words, {**by_hand, "earlier": dict(found)})]


def _led(
    version: int,
    before: int | None,
    evidence_of: Callable[[int], Evidence | None],
    events: Sequence[Decision],
    never: bool,
) -> Iterator[tuple[int, Evidence]]:
    """The proofs from `version` back to `before`, the newest first; nothing where they do not lead there."""
    told = {(e.version, e.evidence.get("decided_at")) for e in events if e.kind == MOVED}
    chain: list[tuple[int, Evidence]] = []
    at: int | None = version
    while at is not None and at != before and len(chain) < _MOST_UNSEEN:
        proof = evidence_of(at)
        fresh = (
            proof is not None and proof.get("challenger") == at and (at, proof.get("decided_at")) not in told
        )
        if proof is None or not fresh or any(at == number for number, _ in chain):
            break
        chain.append((at, proof))
        at = proof.get("champion")
    # A journal that begins now has seen none of the earlier moves: what is known of them is told.
    if at == before or (never and chain):
        yield from chain


def evidence_in_words(evidence: Evidence) -> str:
    """The figures of a proof on a line; empty where there are none."""
    try:
        return _figures(evidence)
    except (KeyError, TypeError, ValueError):
        # Evidence of before this release, or written by hand: its sentence is told, and stands for itself.
        return ""


def _figures(evidence: Evidence) -> str:
    rest, refitted = evidence["without_best_week"], evidence["champion_refitted"]
    return (
        f"pinball {evidence['loss']:.2f} against {evidence['champion_loss']:.2f} one hour ahead, "
        f"{_day(evidence['start'])} to {_day(evidence['end'])} ({evidence['hours']} hours), t = {evidence['t']:.2f}; "
        f"without the week from {rest['from']} p = {rest['p']:.4f}; "
        f"against version {evidence['champion']} at its best width ({refitted['width']:.2f} of its own) p = {refitted['p']:.4f}"
    )


def _day(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d}"
