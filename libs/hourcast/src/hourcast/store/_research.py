"""What the trainer measured: evaluations, back-tests, walks, reports."""

import gzip
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hourcast.contracts import from_epoch, to_epoch
from hourcast.store import _schema as t
from hourcast.store._base import Connected, newest_first
from hourcast.store._engine import run_transaction
from hourcast.store._rows import BacktestRows, Evaluation, WalkFold

__all__ = ["ResearchRecord"]


class ResearchRecord(Connected):
    """The trainer is their only writer."""

    def save_evaluation(self, evaluation: Evaluation) -> None:
        """Record an evaluation; the same (model, version, stage, baseline) again replaces it."""
        c = t.evaluations.c
        values = {name: getattr(evaluation, name) for name in evaluation.__dataclass_fields__} | {
            "figures": dict(evaluation.figures)
        }

        def work(connection: Connection) -> None:
            connection.execute(
                sa.delete(t.evaluations).where(
                    c.model == evaluation.model,
                    c.version == evaluation.version,
                    c.stage == evaluation.stage,
                    c.baseline == evaluation.baseline,
                )
            )
            connection.execute(sa.insert(t.evaluations).values(**values))

        run_transaction(self._engine, work, writes=True)

    def evaluations(
        self, model: str, stage: str | None = None, *, baseline: str | None = None, limit: int | None = None
    ) -> list[Evaluation]:
        """Evaluations of a model in the order in which they were made; with `limit` the newest of them alone."""
        columns = [c for c in t.evaluations.c if c.name != "id"]
        c = t.evaluations.c
        statement = sa.select(*columns).where(c.model == model)
        if stage is not None:
            statement = statement.where(c.stage == stage)
        if baseline is not None:
            statement = statement.where(c.baseline == baseline)
        rows = self._read(newest_first(statement, t.evaluations, "ix_evaluations_stage").limit(limit))
        return [Evaluation(**row._mapping) for row in reversed(rows)]

    def kinds(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """The kind of each of these versions that was evaluated."""
        c = t.evaluations.c
        statement = sa.select(c.version, c.kind).where(c.model == model, c.version.in_(set(versions)))
        return {int(row.version): str(row.kind) for row in self._read(statement.distinct())}

    def save_backtest(self, rows: BacktestRows) -> None:
        """Replace the hourly forecasts of one back-test alias."""
        c = t.backtest_rows.c
        values = [
            {
                "model": rows.model,
                "alias": rows.alias,
                "version": rows.version,
                "origin": from_epoch(rows.origin[i]),
                "target_time": from_epoch(rows.target_time[i]),
                "last_close": float(rows.last_close[i]),
                "actual": float(rows.actual[i]),
                "quantiles": rows.quantiles[i].tolist(),
                "naive_quantiles": rows.naive_quantiles[i].tolist(),
            }
            for i in range(len(rows.origin))
        ]

        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.backtest_rows).where(c.model == rows.model, c.alias == rows.alias))
            if values:
                connection.execute(sa.insert(t.backtest_rows), values)

        run_transaction(self._engine, work, writes=True)

    def backtest_rows(self, model: str, aliases: Collection[str] | None = None) -> list[BacktestRows]:
        """The hourly forecasts of these back-test aliases of a model, or of every one, by alias."""
        table = t.backtest_rows
        statement = sa.select(table).where(table.c.model == model).order_by(table.c.alias, table.c.origin)
        if aliases is not None:
            statement = statement.where(table.c.alias.in_(set(aliases)))
        by_alias: dict[str, list[sa.Row[Any]]] = {}
        for row in self._read(statement):
            by_alias.setdefault(row.alias, []).append(row)
        return [
            BacktestRows(
                model,
                alias,
                rows[0].version,
                np.array([to_epoch(r.origin) for r in rows], np.int64),
                np.array([to_epoch(r.target_time) for r in rows], np.int64),
                np.array([r.last_close for r in rows]),
                np.array([r.actual for r in rows]),
                np.array([r.quantiles for r in rows]),
                np.array([r.naive_quantiles for r in rows]),
            )
            for alias, rows in by_alias.items()
        ]

    def save_walk_folds(self, folds: Sequence[WalkFold]) -> None:
        """Record folds; one of the same model, walk, kind and start is replaced."""
        c = t.walk_folds.c

        def work(connection: Connection) -> None:
            for fold in folds:
                connection.execute(
                    sa.delete(t.walk_folds).where(
                        c.model == fold.model,
                        c.walk == fold.walk,
                        c.kind == fold.kind,
                        c.start == fold.start,
                    )
                )
                values = {name: getattr(fold, name) for name in fold.__dataclass_fields__}
                connection.execute(sa.insert(t.walk_folds).values(**values | {"lineage": dict(fold.lineage)}))

        run_transaction(self._engine, work, writes=True)

    def walk_folds(self, model: str, walk: str, kind: str, *, files: bool = True) -> list[WalkFold]:
        """Folds of a walk in order of time; without `files` those are left out."""
        c = t.walk_folds.c
        columns = [column for column in c if files or column.name != "parquet"]
        statement = sa.select(*columns).where(c.model == model, c.walk == walk, c.kind == kind)
        return [
            WalkFold(**{"parquet": b"", **row._mapping}) for row in self._read(statement.order_by(c.start))
        ]

    def walk_kinds(self, model: str, walk: str) -> list[str]:
        """The kinds that a walk has folds of."""
        c = t.walk_folds.c
        statement = sa.select(c.kind).distinct().where(c.model == model, c.walk == walk).order_by(c.kind)
        return [str(row.kind) for row in self._read(statement)]

    def save_report(self, model: str, made_at: datetime, title: str, html: str) -> None:
        """Keep a page; a model's earlier ones go, since they can be made again from the walk."""
        # A fixed time keeps equal pages equal.
        body = gzip.compress(html.encode(), mtime=0)

        def work(connection: Connection) -> None:
            connection.execute(sa.delete(t.reports).where(t.reports.c.model == model))
            connection.execute(
                sa.insert(t.reports).values(model=model, made_at=made_at, title=title[:255], html=body)
            )

        run_transaction(self._engine, work, writes=True)

    def newest_report(self, model: str) -> tuple[datetime, str] | None:
        """When a model's page was made, and the page; None where there is none."""
        c = t.reports.c
        statement = sa.select(c.made_at, c.html).where(c.model == model).order_by(c.made_at.desc()).limit(1)
        rows = self._read(statement)
        return (rows[0].made_at, gzip.decompress(rows[0].html).decode()) if rows else None
