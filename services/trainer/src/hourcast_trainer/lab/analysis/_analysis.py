"""Everything that is said of a walk, from its rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from hourcast.contracts import HOUR_S, FloatArray, IntArray
from hourcast.errors import ConfigurationError
from hourcast.forecaster import LEVELS
from hourcast_trainer.lab.analysis._calibration import OverTime, Pit, over_time, pit
from hourcast_trainer.lab.analysis._cuts import (
    Cut,
    Skill,
    cut,
    hours_of_week,
    months,
    quintiles,
    skill,
    trailing_volatility,
)
from hourcast_trainer.lab.analysis._scored import BoolArray, Scored, common_origins, score
from hourcast_trainer.lab.analysis._statistics import (
    DieboldMariano,
    Interval,
    diebold_mariano,
    ratio_interval,
)
from hourcast_trainer.lab.analysis._verdicts import Verdict, verdicts
from hourcast_trainer.lab.walk.rows import WalkRows
from hourcast_trainer.models import COMPARED, MODELS

__all__ = [
    "Ablation",
    "AblationFigures",
    "Analysis",
    "Horizons",
    "HoursOfWeek",
    "KindResult",
    "Matrix",
    "Span",
    "SpanResult",
    "analyse",
]

_ABLATION = re.compile(r"^([a-z][a-z0-9_]*)([+-])(.+)$")


@dataclass(frozen=True, slots=True)
class Span:
    """Forecasts made at or after `start_s` whose close came no later than `end_s`, epoch seconds."""

    name: str
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Horizons:
    """Figures by horizon, each (H,); `coverage` and `raw_coverage` (3, H) of the intervals of 50, 80 and 90 %.

    `p` is that of Diebold and Mariano's test of the pinball loss against the reference's.
    """

    pinball_ratio: FloatArray
    raw_pinball_ratio: FloatArray
    winkler_ratio: FloatArray
    raw_winkler_ratio: FloatArray
    rmse_ratio: FloatArray
    mae_ratio: FloatArray
    coverage: FloatArray
    raw_coverage: FloatArray
    p: FloatArray


@dataclass(frozen=True, slots=True)
class HoursOfWeek:
    """Figures one hour ahead by the hour of the week that is forecast, each (168,), from Monday 00:00 UTC."""

    n: IntArray
    pinball_ratio: FloatArray
    coverage_90: FloatArray


@dataclass(frozen=True, slots=True)
class KindResult:
    """What is said of one kind over one span.

    `next_hour` and `all_horizons` test the pinball loss (one hour ahead, and the mean over the horizons of an origin) against the
    reference's; the intervals are of its ratio to the reference's, at 95 %. `pits` are of the shortest and the longest horizon.
    """

    kind: str
    total: Skill
    months: Mapping[str, Skill]
    month_intervals: Mapping[str, Interval]
    quintiles: tuple[Skill, ...]
    hours_of_week: HoursOfWeek
    horizons: Horizons
    next_hour: DieboldMariano
    next_hour_interval: Interval
    all_horizons: DieboldMariano
    all_horizons_interval: Interval
    pits: tuple[Pit, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Each kind against each other: `p` (K, K) of "the row's pinball loss is smaller than the column's", NaN on the diagonal."""

    kinds: tuple[str, ...]
    p: FloatArray


@dataclass(frozen=True, slots=True)
class SpanResult:
    """Every kind over one span. `volatility_edges` (6,) bound the fifths of trailing volatility, shares of the price over a day."""

    span: Span
    kinds: Mapping[str, KindResult]
    next_hour: Matrix
    all_horizons: Matrix
    volatility_edges: FloatArray


@dataclass(frozen=True, slots=True)
class AblationFigures:
    """What a part is worth over one span: by which share the pinball loss falls when it is there, and p of "it falls by luck"."""

    n: int
    gain_next_hour: float
    interval_next_hour: Interval
    p_next_hour: float
    gain_all: float
    interval_all: Interval
    p_all: float


@dataclass(frozen=True, slots=True)
class Ablation:
    """`kind` is `base` with `part` added (`+`) or taken away (`-`); the figures are by span, those of the part in either case."""

    kind: str
    base: str
    sign: str
    part: str
    spans: Mapping[str, AblationFigures]


@dataclass(frozen=True, slots=True)
class Analysis:
    """All figures of a walk. The first span is the whole; kinds are in order of skill, `headline` first and `reference` last.

    `dropped` says how many origins of a kind were left out because another kind lacks them.
    """

    reference: str
    headline: str
    horizons: int
    levels: tuple[float, ...]
    spans: tuple[SpanResult, ...]
    over_time: Mapping[str, OverTime]
    ablations: tuple[Ablation, ...]
    dropped: Mapping[str, int]
    hours: Mapping[str, FloatArray]
    origin: IntArray

    @property
    def whole(self) -> SpanResult:
        """The span of all rows."""
        return self.spans[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that is no ablation."""
        return tuple(self.whole.kinds)

    def rmse_between(self, start_s: int, end_s: int) -> tuple[int, dict[str, float]]:
        """RMSE one hour ahead of each kind over closes in (start_s, end_s], and of how many hours."""
        inside = (self.origin >= start_s) & (self.origin + HOUR_S <= end_s)
        off = {kind: values[inside] for kind, values in self.hours.items()}
        n = int(np.isfinite(off[self.reference]).sum())
        return n, {
            kind: float(np.sqrt(np.nanmean(values**2))) if n else float("nan") for kind, values in off.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: all but the hours themselves; what is not a number is None."""
        whole = _plain(self)
        assert isinstance(whole, dict)
        return {key: value for key, value in whole.items() if key not in ("hours", "origin")}


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

    origin = scored[reference].origin
    horizons = scored[reference].horizons
    first, last = int(origin[0]), int(origin[-1])
    end = last + horizons * HOUR_S
    spans = [Span("whole", first, end)]
    if untouched_from_s is not None and first < untouched_from_s <= last:
        spans += [Span("chosen on", first, untouched_from_s), Span("untouched", untouched_from_s, end)]

    chosen_on = scored[reference].between(
        spans[min(1, len(spans) - 1)].start_s, spans[min(1, len(spans) - 1)].end_s
    )
    order = _by_skill(scored, chosen_on, reference)
    eligible = [kind for kind in order if kind != reference and (kind in MODELS or kind not in COMPARED)]
    lead = headline or (eligible[0] if eligible else reference)
    order = [
        lead,
        *(k for k in order if k not in (lead, reference)),
        *([reference] if lead != reference else []),
    ]
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
    everything = scored[reference].between(first, end)
    return Analysis(
        reference=reference,
        headline=lead,
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
    fifth, edges = quintiles(volatility, counted[:, 0])
    nothing = np.zeros(len(base), np.int64)
    groups: dict[str, tuple[IntArray, tuple[str, ...]]] = {
        "total": (nothing, (span.name,)),
        "month": (month, names),
        "fifth": (fifth, tuple(str(i + 1) for i in range(5))),
        "hour": (hours_of_week(base.origin), tuple(str(i) for i in range(168))),
    }

    def cuts(part: Scored) -> dict[str, Cut]:
        return {name: cut(part, counted, group, labels) for name, (group, labels) in groups.items()}

    theirs = cuts(base)
    next_hour = {kind: part.pinball[counted[:, 0], 0] for kind, part in scored.items()}
    all_horizons = {kind: _all_horizons(part, counted) for kind, part in scored.items()}
    month_of = month[counted[:, 0]]
    kinds = {}
    for kind, part in scored.items():
        ours = cuts(part)
        total = skill(ours["total"], theirs["total"], 0)
        there = [i for i in range(len(names)) if ours["month"].n[i, 0]]
        by_month = {names[i]: skill(ours["month"], theirs["month"], i) for i in there}
        fifths = tuple(skill(ours["fifth"], theirs["fifth"], i) for i in range(5))
        better = diebold_mariano(next_hour[kind], next_hour[reference])
        kinds[kind] = KindResult(
            kind=kind,
            total=total,
            months=by_month,
            month_intervals={
                names[i]: ratio_interval(
                    next_hour[kind][month_of == i],
                    next_hour[reference][month_of == i],
                    seed=seed,
                    draws=draws,
                )
                for i in there
            },
            quintiles=fifths,
            hours_of_week=HoursOfWeek(
                n=ours["hour"].n[:, 0],
                pinball_ratio=ours["hour"].pinball[:, 0] / theirs["hour"].pinball[:, 0],
                coverage_90=ours["hour"].coverage[-1, :, 0],
            ),
            horizons=_horizons(part, base, counted, ours["total"], theirs["total"]),
            next_hour=better,
            next_hour_interval=ratio_interval(next_hour[kind], next_hour[reference], seed=seed, draws=draws),
            all_horizons=diebold_mariano(all_horizons[kind], all_horizons[reference], horizon=part.horizons),
            all_horizons_interval=ratio_interval(
                all_horizons[kind], all_horizons[reference], seed=seed, draws=draws
            ),
            pits=tuple(pit(part, counted, h, levels) for h in sorted({1, part.horizons})),
            verdicts=verdicts(total, by_month, fifths, better, hours=is_whole),
        )
    return SpanResult(
        span=span,
        kinds=kinds,
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


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
