"""Which account may do what on which table. Pure data, and the statements that make a server hold to it.

This is the design's table of who is the only writer of what. The packager and the dashboard have no account.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hourcast.store._retention import RETENTION
from hourcast.store._schema import metadata

__all__ = ["ACCOUNTS", "PRIVILEGES", "RIGHTS", "TABLES", "Right", "grant_statements", "rights_of"]

PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""What an account may be given on a table; none may ever change the schema."""

_EVERYTHING = "ALL PRIVILEGES"
_REVISION = "alembic_version"
TABLES = (*sorted(metadata.tables), _REVISION)
"""Every table of the store; `alembic_version` holds the schema's revision."""

_READ = ("SELECT",)
# An insert that may meet a row of the same key is an update of it.
_UPSERT = ("SELECT", "INSERT", "UPDATE")
_REPLACE = ("SELECT", "INSERT", "DELETE")
_APPEND = ("SELECT", "INSERT")
_FORGET = ("SELECT", "DELETE")
# The schema's revision says whether an upgrade is needed; the clock is written by the replay of one machine only.
_ALL = {_REVISION: _READ, "clock": _READ}

RIGHTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "etl": {
        **_ALL,
        "bars": _UPSERT,
        # What was replaced, and that an hour was closed, is said once.
        "bar_revisions": _APPEND,
        "hours": _APPEND,
        "ingest_runs": _UPSERT,
        "quarantined_bars": (*_UPSERT, "DELETE"),
    },
    "trainer": {
        **_ALL,
        "bars": _READ,
        "bar_revisions": _READ,
        "hours": _READ,
        "evaluations": _REPLACE,
        "backtest_rows": _REPLACE,
        "walk_folds": _REPLACE,
        "reports": _REPLACE,
        # How often its forecasts held says how the next version should start.
        "fans": _READ,
        "forgotten": _READ,
    },
    # What was decided and what happened is added to, never changed.
    "controller": {**_ALL, "events": _APPEND, "decisions": _APPEND, "standing": _UPSERT},
    # What is old is deleted by one account, which changes nothing and tells what went.
    "tidy": {
        **_ALL,
        **{table: _FORGET for table, rule in RETENTION.items() if rule.keeping is not None},
        "backtest_rows": _FORGET,
        "events": (*_APPEND, "DELETE"),
        "forgotten": _UPSERT,
        "standing": _READ,
    },
    "serving": {
        **_ALL,
        "bars": _READ,
        "bar_revisions": _READ,
        "hours": _READ,
        "evaluations": _READ,
        "backtest_rows": _READ,
        "reports": _READ,
        "events": _READ,
        # Of release 0.1.0; from the migration on it is only looked into.
        "forecasts": _READ,
        # What was issued is never changed.
        "fans": _APPEND,
        "decisions": _READ,
        "standing": _READ,
    },
}
"""Account to table to privileges. A service has no right that is not here."""

ACCOUNTS = tuple(RIGHTS)
"""The services that have an account on the store."""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """A privilege on a table of a database; `*` is every table, or every database."""

    database: str
    table: str
    privilege: str


def rights_of(account: str, database: str) -> frozenset[Right]:
    """What the account of a service (`etl`) should have on the store that lies in `database`."""
    return frozenset(
        Right(database, table, privilege)
        for table, privileges in RIGHTS[account].items()
        for privilege in privileges
    )


def grant_statements(user: str, wanted: Iterable[Right], held: Iterable[Right]) -> list[str]:
    """The GRANT and REVOKE statements that take a user from what it holds to what it should.

    `user` is as MySQL writes it, quoted: `'hourcast_etl'@'%'`. What is missing is given before what is too much is
    taken, so that a running service never lacks a right that it has by design. Only a grant of everything on a table
    comes first, because taking it back takes each single one too.
    """
    wanted, held = frozenset(wanted), frozenset(held)
    whole = frozenset(right for right in held if right.privilege == _EVERYTHING)
    places = {(right.database, right.table) for right in whole}
    held = frozenset(r for r in held if (r.database, r.table) not in places or r.privilege == "GRANT OPTION")
    return [
        *_statements("REVOKE", "FROM", user, whole),
        *_statements("GRANT", "TO", user, wanted - held),
        *_statements("REVOKE", "FROM", user, held - wanted),
    ]


def _statements(verb: str, word: str, user: str, rights: Iterable[Right]) -> list[str]:
    places: dict[tuple[str, str], list[str]] = {}
    for right in sorted(rights):
        places.setdefault((right.database, right.table), []).append(right.privilege)
    return [
        f"{verb} {', '.join(privileges)} ON {_quoted(database)}.{_quoted(table)} {word} {user}"
        for (database, table), privileges in places.items()
    ]


def _quoted(name: str) -> str:
    return name if name == "*" else "`" + name.replace("`", "``") + "`"
