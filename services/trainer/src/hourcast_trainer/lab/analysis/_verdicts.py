"""What was promised, against what was measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hourcast_trainer.lab.analysis._cuts import Skill
from hourcast_trainer.lab.analysis._statistics import DieboldMariano

__all__ = ["JUDGED_MONTH_H", "LIMITS", "Limits", "Verdict", "verdicts"]

# A month of fewer hours says nothing that luck could not have said.
JUDGED_MONTH_H = 168


@dataclass(frozen=True, slots=True)
class Limits:
    """What forecasts must show to be worth serving; ratios are to the reference, coverage margins are shares."""

    hours: int = 12_000
    pinball_ratio: float = 0.97
    p: float = 0.01
    pinball_all_ratio: float = 1.0
    winkler_ratio: float = 0.88
    coverage: float = 0.90
    coverage_margin: float = 0.015
    coverage_margin_quintile: float = 0.04
    coverage_margin_month: float = 0.03
    point_ratio: float = 1.001
    point_ratio_month: float = 1.01


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One promise: the value `measured`, the limit in words, whether it was met, and where a worst group was found."""

    promise: str
    measured: float
    told: str
    limit: str
    met: bool
    where: str = ""


def verdicts(
    total: Skill,
    months: Mapping[str, Skill],
    quintiles: Sequence[Skill],
    better: DieboldMariano,
    *,
    limits: Limits = LIMITS,
    hours: bool = True,
) -> tuple[Verdict, ...]:
    """Hold one kind's figures over one span against `limits`.

    `better` is the test of its pinball loss one hour ahead against the reference's. Months of fewer than `JUDGED_MONTH_H` forecasts are
    not judged. Without `hours` the length of the span is not either.
    """
    judged = {name: part for name, part in months.items() if part.n >= JUDGED_MONTH_H}
    fifths = {f"fifth {i + 1}": part for i, part in enumerate(quintiles) if part.n}
    out = []
    if hours:
        enough = total.n >= limits.hours
        told = f"{total.n:,}", f"{limits.hours:,} or more"
        out.append(Verdict("hours out of sample", total.n, *told, enough))
    out += [
        _below("pinball loss at 1 h, against the reference", total.pinball_ratio, limits.pinball_ratio),
        Verdict(
            "p of the same, one-sided Diebold–Mariano",
            better.p,
            f"{better.p:.4f}" if better.p >= 1e-4 else "< 0.0001",
            f"below {limits.p:g}",
            better.p < limits.p,
        ),
        _below(
            "pinball loss over all horizons, against the reference",
            total.pinball_all_ratio,
            limits.pinball_all_ratio,
            strictly=True,
        ),
        _below(
            "Winkler score of 90 % at 1 h, against the reference", total.winkler_ratio, limits.winkler_ratio
        ),
        _near("coverage of 90 % at 1 h", {"": total}, limits.coverage, limits.coverage_margin),
        _near(
            "the same coverage in the worst fifth of volatility",
            fifths,
            limits.coverage,
            limits.coverage_margin_quintile,
        ),
        _near("the same coverage in the worst month", judged, limits.coverage, limits.coverage_margin_month),
        _below("RMSE of the median at 1 h, against the reference", total.rmse_ratio, limits.point_ratio),
        _below("MAE of the median at 1 h, against the reference", total.mae_ratio, limits.point_ratio),
        _worst(
            "the same RMSE in the worst month", judged, lambda part: part.rmse_ratio, limits.point_ratio_month
        ),
        _worst(
            "the same MAE in the worst month", judged, lambda part: part.mae_ratio, limits.point_ratio_month
        ),
    ]
    return tuple(out)


def _below(
    promise: str, measured: float, limit: float, *, strictly: bool = False, where: str = ""
) -> Verdict:
    # NaN is met by nothing.
    met = measured < limit if strictly else measured <= limit
    return Verdict(
        promise, measured, f"{measured:.4f}", f"{'below' if strictly else 'at most'} {limit:g}", met, where
    )


def _near(promise: str, groups: Mapping[str, Skill], middle: float, margin: float) -> Verdict:
    limit = f"{100 * middle:g} ± {100 * margin:g} %"
    if not groups:
        return Verdict(promise, float("nan"), "–", limit, False)
    where, worst = max(groups.items(), key=lambda item: abs(item[1].coverage_90 - middle))
    measured = worst.coverage_90
    # As many digits as decide: floats must not make 91.5 % more than 91.5 %.
    return Verdict(
        promise, measured, f"{100 * measured:.2f} %", limit, round(abs(measured - middle), 9) <= margin, where
    )


def _worst(
    promise: str, groups: Mapping[str, Skill], value: Callable[[Skill], float], limit: float
) -> Verdict:
    if not groups:
        return Verdict(promise, float("nan"), "–", f"at most {limit:g}", False)
    where, worst = max(groups.items(), key=lambda item: value(item[1]))
    return _below(promise, value(worst), limit, where=where)
