"""Who is the only writer of what, as data, and the statements that follow from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hourcast.store import ACCOUNTS, PRIVILEGES, RIGHTS, TABLES, Right, grant_statements, rights_of
from hourcast.store._schema import metadata

_WRITES = {"INSERT", "UPDATE", "DELETE"}


def _writers(table: str) -> set[str]:
    """Who adds to it or changes it; that what is old is deleted by one account is another test's."""
    others = [account for account in ACCOUNTS if account != "tidy"]
    return {account for account in others if _WRITES & set(RIGHTS[account].get(table, ()))}


def test_each_table_has_the_writer_of_the_design() -> None:
    """One writer a table; the clock, the schema's revision and the record of release 0.1.0 have none."""
    assert {table: _writers(table) for table in TABLES} == {
        "bars": {"etl"}, "bar_revisions": {"etl"}, "hours": {"etl"}, "ingest_runs": {"etl"}, "quarantined_bars": {"etl"}, "evaluations": {"trainer"},
        "backtest_rows": {"trainer"}, "walk_folds": {"trainer"}, "reports": {"trainer"},
        "forecasts": set(), "fans": {"serving"}, "events": {"controller"}, "decisions": {"controller"},
        "standing": {"controller"}, "clock": set(), "forgotten": set(), "alembic_version": set(),
    }  # fmt: skip


@pytest.mark.parametrize("table", ["decisions", "hours", "bar_revisions", "fans", "forecasts"])
def test_what_happened_is_only_added_to(table: str) -> None:
    """Nobody may change what happened nor what is told of it, and nobody may remove it but the tidying, what may grow old."""
    for account in ACCOUNTS:
        may = {"UPDATE", "DELETE"} & set(RIGHTS[account].get(table, ()))
        assert may == ({"DELETE"} if account == "tidy" and table != "decisions" else set())
        assert "UPDATE" not in RIGHTS[account].get("events", ())


def test_rights_name_tables_and_privileges_that_exist() -> None:
    """Every table is one of the schema, every privilege one of the four, and who writes a table may read it."""
    assert set(TABLES) == set(metadata.tables) | {"alembic_version"}
    for tables in RIGHTS.values():
        for table, privileges in tables.items():
            assert table in TABLES
            assert set(privileges) <= set(PRIVILEGES)
            assert "SELECT" in privileges


def test_the_statements_are_as_mysql_wants_them() -> None:
    """What is missing is given by table, what is too much taken, a grant of everything first."""
    held = {
        Right("h", "events", "SELECT"), Right("h", "bars", "DELETE"), Right("h", "bars", "UPDATE (open)"), Right("*", "*", "PROCESS"),
        Right("h", "clock", "ALL PRIVILEGES"), Right("h", "clock", "GRANT OPTION"),
    }  # fmt: skip
    assert grant_statements("'u'@'%'", rights_of("controller", "h"), held) == [
        "REVOKE ALL PRIVILEGES ON `h`.`clock` FROM 'u'@'%'",
        "GRANT SELECT ON `h`.`alembic_version` TO 'u'@'%'",
        "GRANT SELECT ON `h`.`clock` TO 'u'@'%'",
        "GRANT INSERT, SELECT ON `h`.`decisions` TO 'u'@'%'",
        "GRANT INSERT ON `h`.`events` TO 'u'@'%'",
        "GRANT INSERT, SELECT, UPDATE ON `h`.`standing` TO 'u'@'%'",
        "REVOKE PROCESS ON *.* FROM 'u'@'%'",
        "REVOKE DELETE, UPDATE (open) ON `h`.`bars` FROM 'u'@'%'",
        "REVOKE GRANT OPTION ON `h`.`clock` FROM 'u'@'%'",
    ]


@given(
    st.sampled_from(ACCOUNTS),
    st.sets(st.sampled_from(sorted(rights_of("etl", "h") | rights_of("serving", "h")))),
)
def test_the_statements_lead_from_anything_to_exactly_the_rights(account: str, held: set[Right]) -> None:
    """Done in order they leave what is wanted, and at no point is a right missing that was there and is wanted."""
    wanted, now = rights_of(account, "h"), set(held)
    for statement in grant_statements("u", wanted, held):
        verb, rest = statement.split(" ", 1)
        privileges, place = rest.split(" ON ")
        database, table = place.split(" ")[0].replace("`", "").split(".")
        rights = {Right(database, table, privilege) for privilege in privileges.split(", ")}
        now = now | rights if verb == "GRANT" else now - rights
        assert now >= held & wanted
    assert now == wanted
    assert grant_statements("u", wanted, now) == []
