"""Everything that is said of a walk, from its rows."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.errors import ConfigurationError
from hourcast.forecaster import LEVELS
from hourcast_trainer.lab.analysis._calibration import over_time, pit
from hourcast_trainer.lab.analysis._cuts import (
    Cut,
    cut,
    hours_of_week,
    months,
    quintiles,
    skill,
    trailing_volatility,
)
from hourcast_trainer.lab.analysis._results import (
    Ablation,
    AblationFigures,
    Analysis,
    Horizons,
    HoursOfWeek,
    KindResult,
    Matrix,
    Span,
    SpanResult,
)  # fmt: skip
from hourcast_trainer.lab.analysis._scored import BoolArray, Scored, common_origins, score
from hourcast_trainer.lab.analysis._statistics import (
    Interval,
    diebold_mariano,
    ratio_interval,
)
from hourcast_trainer.lab.analysis._verdicts import verdicts
from hourcast_trainer.lab.walk.rows import WalkRows
from hourcast_trainer.models import COMPARED, MODELS

__all__ = ["analyse"]

_ALL = slice(None)
_ABLATION = re.compile(r"^([a-z][a-z0-9_]*)([+-])(.+)$")


def analyse(
    rows: Mapping[str, WalkRows],
    *,
    reference: str = "naive",
    untouched_from_s: int | None = None,
    headline: str | None = None,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    draws: int = 2000,
) -> Analysis:
    """Measure every kind of a walk on the hours that all of them have.

    The rows of one kind are read, scored and let go before those of the next, so that `rows` may load them as they are asked for.

    Args:
        rows: by kind. A kind whose name is another's with `+part` or `-part` is an ablation of that one.
        reference: the kind that ratios and tests are against.
        untouched_from_s: where the hours begin at which nobody looked while choosing; the spans before and from there
            are then told apart. A close that came later belongs to no span before.
        headline: the kind that verdicts are headed by. By default the one of least pinball loss over all horizons on the hours before
            `untouched_from_s`; a kind that is compared only, such as Prophet, is not taken.
        levels: (Q,) of the quantiles.
        seed: of the bootstrap.
        draws: resamples of the bootstrap.

    Raises:
        ConfigurationError: when the reference, the headline or an ablation's base is not among the kinds.
        DataError: when kinds share no origin, or were walked over different bars.
    """
    parts = {kind: _ABLATION.match(kind) for kind in rows}
    mains = [kind for kind, match in parts.items() if match is None]
    for name, what in ((reference, "the reference"), (headline, "the headline")):
        if name is not None and name not in mains:
            raise ConfigurationError(
                f"{what} {name!r} was not walked; there are {', '.join(mains) or 'no kinds'}"
            )
    full = {kind: score(rows[kind], levels) for kind in mains}
    scored = dict(zip(mains, common_origins(list(full.values())), strict=True))
    dropped = {kind: len(full[kind]) - len(scored[kind]) for kind in mains}

    origin, horizons = scored[reference].origin, scored[reference].horizons
    spans = _spans(origin, horizons, untouched_from_s)
    order = _order(scored, spans[min(1, len(spans) - 1)], reference, headline)
    volatility = trailing_volatility(origin, scored[reference].last_close)
    results = tuple(
        _span(
            {kind: scored[kind] for kind in order},
            reference,
            span,
            volatility,
            np.asarray(levels),
            seed,
            draws,
            i == 0,
        )
        for i, span in enumerate(spans)
    )
    everything = scored[reference].between(spans[0].start_s, spans[0].end_s)
    return Analysis(
        reference=reference,
        headline=order[0],
        horizons=horizons,
        levels=tuple(levels),
        spans=results,
        over_time={kind: over_time(scored[kind], scored[reference], everything) for kind in order},
        ablations=tuple(
            _ablation(rows, full, match, spans, levels, seed, draws)
            for kind, match in sorted(parts.items())
            if match is not None
        ),
        dropped={kind: dropped[kind] for kind in order},
        hours={kind: scored[kind].off[:, 0] for kind in order},
        origin=origin,
    )


def _spans(origin: IntArray, horizons: int, untouched_from_s: int | None) -> list[Span]:
    """The whole, and where hours were left untouched those before and from there."""
    first, last = int(origin[0]), int(origin[-1])
    end = last + horizons * HOUR_S
    spans = [Span("whole", first, end)]
    if untouched_from_s is not None and first < untouched_from_s <= last:
        spans += [Span("chosen on", first, untouched_from_s), Span("untouched", untouched_from_s, end)]
    return spans


def _order(scored: Mapping[str, Scored], chosen_on: Span, reference: str, headline: str | None) -> list[str]:
    """Kinds by skill on the hours on which choices were made: the headline first, the reference last."""
    counted = scored[reference].between(chosen_on.start_s, chosen_on.end_s)
    order = _by_skill(scored, counted, reference)
    eligible = [kind for kind in order if kind != reference and (kind in MODELS or kind not in COMPARED)]
    lead = headline or (eligible[0] if eligible else reference)
    others = [kind for kind in order if kind not in (lead, reference)]
    return [lead, *others, *([reference] if lead != reference else [])]


def _by_skill(scored: Mapping[str, Scored], counted: BoolArray, reference: str) -> list[str]:
    """Kinds by their mean over horizons of the pinball loss; the name decides between equals."""

    def loss(kind: str) -> float:
        with np.errstate(invalid="ignore"):
            by_horizon = np.where(counted, scored[kind].pinball, 0.0).sum(axis=0) / counted.sum(axis=0)
        return float(np.nanmean(by_horizon))

    return sorted(scored, key=lambda kind: (kind == reference, loss(kind), kind))


def _all_horizons(scored: Scored, counted: BoolArray) -> FloatArray:
    """(M,) the mean over horizons of the pinball loss from each origin that has them all."""
    whole = counted.all(axis=1)
    losses: FloatArray = scored.pinball[whole].mean(axis=1)
    return losses


def _groups(
    base: Scored, counted: BoolArray, span: Span, volatility: FloatArray
) -> tuple[dict[str, tuple[IntArray, tuple[str, ...]]], FloatArray]:
    """By what a span is cut: for each origin the number of its group, and the groups' names; and the fifths' edges."""
    month, names = months(base.origin)
    fifth, edges = quintiles(volatility, counted[:, 0])
    return {
        "total": (np.zeros(len(base), np.int64), (span.name,)),
        "month": (month, names),
        "fifth": (fifth, tuple(str(i + 1) for i in range(5))),
        "hour": (hours_of_week(base.origin), tuple(str(i) for i in range(168))),
    }, edges


def _span(
    scored: Mapping[str, Scored],
    reference: str,
    span: Span,
    volatility: FloatArray,
    levels: FloatArray,
    seed: int,
    draws: int,
    is_whole: bool,
) -> SpanResult:
    base = scored[reference]
    counted = base.between(span.start_s, span.end_s)
    month, names = months(base.origin)
    groups, edges = _groups(base, counted, span, volatility)

    def cuts(part: Scored) -> dict[str, Cut]:
        return {name: cut(part, counted, group, labels) for name, (group, labels) in groups.items()}

    theirs = cuts(base)
    next_hour = {kind: part.pinball[counted[:, 0], 0] for kind, part in scored.items()}
    all_horizons = {kind: _all_horizons(part, counted) for kind, part in scored.items()}
    month_of = month[counted[:, 0]]

    def interval(losses: Mapping[str, FloatArray], kind: str, at: BoolArray | slice = _ALL) -> Interval:
        return ratio_interval(losses[kind][at], losses[reference][at], seed=seed, draws=draws)

    def result(kind: str, part: Scored) -> KindResult:
        ours = cuts(part)
        total = skill(ours["total"], theirs["total"], 0)
        there = [i for i in range(len(names)) if ours["month"].n[i, 0]]
        by_month = {names[i]: skill(ours["month"], theirs["month"], i) for i in there}
        fifths = tuple(skill(ours["fifth"], theirs["fifth"], i) for i in range(5))
        better = diebold_mariano(next_hour[kind], next_hour[reference])
        return KindResult(
            kind=kind,
            total=total,
            months=by_month,
            month_intervals={names[i]: interval(next_hour, kind, month_of == i) for i in there},
            quintiles=fifths,
            hours_of_week=HoursOfWeek(
                n=ours["hour"].n[:, 0],
                pinball_ratio=ours["hour"].pinball[:, 0] / theirs["hour"].pinball[:, 0],
                coverage_90=ours["hour"].coverage[-1, :, 0],
            ),
            horizons=_horizons(part, base, counted, ours["total"], theirs["total"]),
            next_hour=better,
            next_hour_interval=interval(next_hour, kind),
            all_horizons=diebold_mariano(all_horizons[kind], all_horizons[reference], horizon=part.horizons),
            all_horizons_interval=interval(all_horizons, kind),
            pits=tuple(pit(part, counted, h, levels) for h in sorted({1, part.horizons})),
            verdicts=verdicts(total, by_month, fifths, better, hours=is_whole),
        )

    return SpanResult(
        span=span,
        kinds={kind: result(kind, part) for kind, part in scored.items()},
        next_hour=_matrix(next_hour, 1),
        all_horizons=_matrix(all_horizons, base.horizons),
        volatility_edges=edges,
    )


def _horizons(part: Scored, base: Scored, counted: BoolArray, ours: Cut, theirs: Cut) -> Horizons:
    def p(place: int) -> float:
        at = counted[:, place]
        return diebold_mariano(part.pinball[at, place], base.pinball[at, place], horizon=place + 1).p

    return Horizons(
        pinball_ratio=ours.pinball[0] / theirs.pinball[0],
        raw_pinball_ratio=ours.raw_pinball[0] / theirs.pinball[0],
        winkler_ratio=ours.winkler[0] / theirs.winkler[0],
        raw_winkler_ratio=ours.raw_winkler[0] / theirs.winkler[0],
        rmse_ratio=ours.rmse[0] / theirs.rmse[0],
        mae_ratio=ours.mae[0] / theirs.mae[0],
        coverage=ours.coverage[:, 0],
        raw_coverage=ours.raw_coverage[:, 0],
        p=np.array([p(i) for i in range(part.horizons)]),
    )


def _matrix(losses: Mapping[str, FloatArray], horizon: int) -> Matrix:
    kinds = tuple(losses)
    p = np.full((len(kinds), len(kinds)), np.nan)
    for i, ours in enumerate(kinds):
        for j, theirs in enumerate(kinds):
            if i != j:
                p[i, j] = diebold_mariano(losses[ours], losses[theirs], horizon=horizon).p
    return Matrix(kinds, p)


def _ablation(
    rows: Mapping[str, WalkRows],
    mains: Mapping[str, Scored],
    match: re.Match[str],
    spans: Sequence[Span],
    levels: Sequence[float],
    seed: int,
    draws: int,
) -> Ablation:
    kind, base, sign, part = match[0], match[1], match[2], match[3]
    if base not in mains:
        raise ConfigurationError(f"{kind!r} is an ablation of {base!r}, which was not walked; walk that too")
    varied, plain = common_origins([score(rows[kind], levels), mains[base]])
    having, lacking = (varied, plain) if sign == "+" else (plain, varied)

    def figures(span: Span) -> AblationFigures:
        counted = having.between(span.start_s, span.end_s)
        at = counted[:, 0]
        one, other = having.pinball[at, 0], lacking.pinball[at, 0]
        all_one, all_other = _all_horizons(having, counted), _all_horizons(lacking, counted)
        near = ratio_interval(one, other, seed=seed, draws=draws)
        whole = ratio_interval(all_one, all_other, seed=seed, draws=draws)
        return AblationFigures(
            n=int(at.sum()),
            gain_next_hour=1 - float(one.sum() / other.sum()) if len(one) else float("nan"),
            interval_next_hour=Interval(1 - near.high, 1 - near.low),
            p_next_hour=diebold_mariano(one, other).p,
            gain_all=1 - float(all_one.sum() / all_other.sum()) if len(all_one) else float("nan"),
            interval_all=Interval(1 - whole.high, 1 - whole.low),
            p_all=diebold_mariano(all_one, all_other, horizon=having.horizons).p,
        )

    return Ablation(kind, base, sign, part, {span.name: figures(span) for span in spans})
