"""How a champion's moves are told from what is seen of them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.decisions import Decision, DecisionKind, Standing
from hourcast_controller.champion import MOVED, Move, evidence_in_words, moves

_START = datetime(2026, 1, 5, tzinfo=UTC)


def _proof(challenger: int, champion: int | None, week: int = 0) -> dict[str, Any]:
    at = (_START + timedelta(weeks=week)).isoformat()
    return {
        "challenger": challenger,
        "champion": champion,
        "decided_at": at,
        "reason": f"better than version {champion}",
    }


def _event(version: int | None, evidence: Mapping[str, Any], kind: DecisionKind = MOVED) -> Decision:
    return Decision(_START, "controller", kind, "m", version, "champion", "why", _START, evidence)


def _noted(events: Sequence[Decision]) -> int | None:
    """The champion as it was last written down; `events` are the newest first."""
    standing = Standing()
    for event in reversed(events):
        standing = standing.after(event)
    return standing.champion


def _of(proofs: Mapping[int, dict[str, Any]]) -> Callable[[int], Mapping[str, Any] | None]:
    """Evidence by version, as the registry gives it."""
    return lambda version: proofs.get(version)


def _journal(*told: Move) -> list[Decision]:
    """Events of moves, the newest first."""
    return [_event(move.version, move.evidence) for move in reversed(told)]


def test_a_move_by_proof_is_told_with_its_proof() -> None:
    """The event carries the sentence and every figure that the version's tag has."""
    proof = _proof(7, 3)
    events = _journal(Move(3, "", {}))
    assert moves(7, 3, _of({7: proof}), events) == [Move(7, "better than version 3", proof)]


def test_a_move_without_proof_was_made_by_hand() -> None:
    """A version without evidence says so, with whom it took the place from."""
    events = _journal(Move(3, "", {}))
    (told,) = moves(5, 3, _of({}), events)
    assert told == Move(5, "moved by hand from version 3, no evidence", {"by_hand": True, "before": 3})


def test_a_proof_is_good_for_one_move() -> None:
    """A version that won once and is put back by a person later is told as moved by hand, with the earlier proof."""
    proof = _proof(7, 3)
    won = Move(7, "better than version 3", proof)
    back = Move(3, "moved by hand", {"by_hand": True})
    (told,) = moves(7, 3, _of({7: proof}), _journal(Move(3, "", {}), won, back))
    assert told.reason == (
        "moved by hand from version 3; its evidence is an earlier one, against version 3, of 2026-01-05"
    )
    assert told.evidence == {"by_hand": True, "before": 3, "earlier": proof}


def test_a_proof_against_another_is_no_proof_of_this_move() -> None:
    """Evidence counts only where it leads to the champion that was written down last."""
    proof = _proof(7, 2)
    (told,) = moves(7, 5, _of({7: proof}), _journal(Move(5, "", {})))
    assert told.reason == (
        "moved by hand from version 5; its evidence is an earlier one, against version 2, of 2026-01-05"
    )


def test_a_copied_tag_is_no_proof() -> None:
    """Evidence that names another challenger than the version that carries it counts for nothing."""
    (told,) = moves(8, 3, _of({8: _proof(7, 3)}), _journal(Move(3, "", {})))
    assert told.evidence["by_hand"]


def test_moves_that_nobody_watched_are_told_one_by_one() -> None:
    """A controller that was away for weeks finds the proofs one behind the other and writes each, the oldest first."""
    proofs = {5: _proof(5, 3, 1), 9: _proof(9, 5, 2), 12: _proof(12, 9, 3)}
    told = moves(12, 3, _of(proofs), _journal(Move(3, "", {})))
    assert [(m.version, m.evidence["champion"]) for m in told] == [(5, 3), (9, 5), (12, 9)]


def test_a_journal_that_begins_tells_what_is_known() -> None:
    """Nothing was written down yet: the proofs that there are, or that the champion was found without one."""
    first = {**_proof(1, None), "reason": "the first champion"}
    assert [m.version for m in moves(4, None, _of({4: _proof(4, 1), 1: first}), [])] == [1, 4]
    assert [m.version for m in moves(4, None, _of({4: _proof(4, 1)}), [])] == [4]
    assert moves(4, None, _of({}), [])[0].reason == "found as champion, no evidence"


def test_a_champion_that_is_taken_away_is_told() -> None:
    """A removed alias is an event too, and one that is set again afterwards is told as by hand."""
    gone = moves(None, 3, _of({}), _journal(Move(3, "", {})))
    assert gone == [
        Move(None, "the alias was removed by hand: no version is champion", {"by_hand": True, "before": 3})
    ]
    events = _journal(Move(3, "", {}), *gone)
    assert _noted(events) is None
    assert moves(3, None, _of({}), events)[0].reason == "set by hand, no evidence"


@given(
    st.integers(1, 6),
    st.none() | st.integers(1, 6),
    st.dictionaries(
        st.integers(1, 6), st.tuples(st.none() | st.integers(1, 6), st.integers(0, 3)), max_size=6
    ),
    st.lists(st.integers(1, 6), max_size=3),
)
def test_what_was_told_is_not_told_again(
    version: int, before: int | None, proofs: dict[int, tuple[int | None, int]], earlier: list[int]
) -> None:
    """Whatever tags there are, even in a circle: the last move told is the champion, and then nothing is left to tell."""
    evidence = {v: _proof(v, rival, week) for v, (rival, week) in proofs.items()}
    past = [Move(v, "", evidence.get(v, {})) for v in earlier] + ([Move(before, "", {})] if before else [])
    events = _journal(*past)
    if version == _noted(events):
        return
    told = moves(version, _noted(events), _of(evidence), events)
    assert told[-1].version == version
    assert _noted([*_journal(*told), *events]) == version


def test_other_events_say_nothing_about_the_champion() -> None:
    """Only moves of the champion count, the newest first."""
    events = [_event(9, {}, "rolled"), _event(7, {}), _event(3, {})]
    assert _noted(events) == 7
    assert _noted(events[:1]) is None


def test_the_evidence_is_told_on_a_line() -> None:
    """Losses, span and t, and p without the week that helped most and against the champion's best width."""
    evidence = {
        "loss": 108.123, "champion_loss": 111.6, "start": "2026-01-05T00:00:00+00:00", "end": "2026-02-15T00:00:00+00:00",
        "hours": 984, "t": 4.21, "champion": 3, "without_best_week": {"from": "2026-01-19", "p": 0.0031},
        "champion_refitted": {"width": 0.934, "p": 0.0009},
    }  # fmt: skip
    assert evidence_in_words(evidence) == (
        "pinball 108.12 against 111.60 one hour ahead, 2026-01-05 to 2026-02-15 (984 hours), t = 4.21; "
        "without the week from 2026-01-19 p = 0.0031; against version 3 at its best width (0.93 of its own) p = 0.0009"
    )


@pytest.mark.parametrize("evidence", [{}, {"by_hand": True, "before": 3}, {"run_id": "r"}])
def test_where_there_is_no_evidence_nothing_is_told(evidence: dict[str, Any]) -> None:
    """Moves by hand and other events have no second line."""
    assert evidence_in_words(evidence) == ""
