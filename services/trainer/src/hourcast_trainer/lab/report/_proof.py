"""What stands behind it: ablations, models against each other, the folds, the methods."""

from collections.abc import Mapping, Sequence

from hourcast_trainer.lab.analysis import Ablation, Analysis, Matrix
from hourcast_trainer.lab.report._charts import Axis, across
from hourcast_trainer.lab.report._content import Fold
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, signed
from hourcast_trainer.lab.report._parts import details, limits_of, name_of, note, shade, table, told_p

__all__ = ["ablations", "comparisons", "lineage", "methods"]

_SURE, _LIKELY = 0.01, 0.05


def ablations(analysis: Analysis) -> Html:
    """What each part of the inputs is worth, judged on the hours on which choices were made."""
    if not analysis.ablations:
        return el("p", "No ablation was walked.")
    fresh = len(analysis.spans) > 1
    span = "chosen on" if fresh else "whole"
    intervals = [item.spans[span].interval_next_hour for item in analysis.ablations]
    axis = Axis(*limits_of([v for i in intervals for v in (i.low, i.high)], 0.0), ())

    def row(item: Ablation) -> tuple[str, list[str]]:
        f = item.spans[span]
        cells: list[str] = [
            name_of(item.base),
            "added" if item.sign == "+" else "taken away",
            signed(f.gain_next_hour, 2),
            el(
                "td",
                across(axis, f.interval_next_hour.low, f.gain_next_hour, f.interval_next_hour.high),
                class_="forest",
            ),
            told_p(f.p_next_hour),
            signed(f.gain_all, 2),
            told_p(f.p_all),
            _said(f.p_next_hour, f.p_all),
        ]
        if fresh:
            later = item.spans["untouched"]
            cells += [signed(later.gain_next_hour, 2), signed(later.gain_all, 2)]
        return item.part, cells

    rows = [row(item) for item in analysis.ablations]
    head = [
        "part",
        "of",
        "how",
        f"worth, 1{NBSP}h",
        f"95{NBSP}% of it",
        "p",
        "worth, all horizons",
        "p",
        "judged",
    ]
    if fresh:
        head += [f"untouched, 1{NBSP}h", "untouched, all horizons"]
    return table(
        "What a part of the inputs is worth",
        head,
        rows,
        foot=[
            "worth: the share by which the pinball loss falls when the part is there, be it added to the model or taken from it. p: Diebold–Mariano test",
            note(3), " of “it does not help”, which one useless part in twenty passes at 0.05. ",
            "Judged on the hours on which choices were made." if fresh else "",
        ],
    )  # fmt: skip


def _said(p_next: float, p_all: float) -> str:
    best, least = min(p_next, p_all), max(p_next, p_all)
    helps, hurts = best < _LIKELY, least > 1 - _LIKELY
    if helps and hurts:
        return "helps and hurts"
    if helps:
        return "helps"
    return "hurts" if hurts else "no difference"


def comparisons(analysis: Analysis) -> Html:
    """Every model against every other."""

    def made(matrix: Matrix, what: str) -> Html:
        rows = []
        for i, kind in enumerate(matrix.kinds):
            cells: list[str] = []
            for j in range(len(matrix.kinds)):
                p = float(matrix.p[i, j])
                if i == j:
                    cells.append(el("td", "·", class_="self"))
                    continue
                far = min(p, 1 - p)
                depth = 1.0 if far < _SURE else 0.5 if far < _LIKELY else 0.0
                cells.append(shade(told_p(p), depth if p < 0.5 else -depth, 1.5, bold=p < _SURE))
            rows.append((name_of(kind), cells))
        return table(what, ["better than …", *map(name_of, matrix.kinds)], rows, class_="matrix")

    whole = analysis.whole
    return join(
        [
            el(
                "p", "p of the one-sided Diebold–Mariano test", note(3), " of “the model of the row is no better than that of the column”, in bold below 0.01. On blue ground "
                "the row is the better one, on orange ground the column.",
            ),
            made(whole.next_hour, "One hour ahead"),
            made(whole.all_horizons, f"Mean of the horizons 1 … {analysis.horizons}"),
        ]
    )  # fmt: skip


def lineage(analysis: Analysis, folds: Sequence[Fold]) -> Html:
    """What each fold was fitted on, what it chose and what came of it."""
    if not folds:
        return el("p", "No folds were given.")
    kinds: dict[str, list[Fold]] = {kind: [] for kind in analysis.kinds}
    for fold in folds:
        kinds.setdefault(fold.kind, []).append(fold)
    out = []
    for kind, parts in kinds.items():
        if not parts:
            continue
        rows = [
            (
                f"{f.start:%Y-%m-%d %H:%M}",
                [
                    f"{f.end:%Y-%m-%d %H:%M}",
                    f"{f.trained_through:%Y-%m-%d}",
                    _chosen(f.chosen),
                    number(f.rows),
                    el("td", el("code", f.sha[:16])),
                ],
            )
            for f in parts
        ]
        made = table(
            f"Folds of {name_of(kind)}", ["from", "to", "trained through", "chosen", "rows", "SHA-256 of the rows"], rows, class_="folds"
        )  # fmt: skip
        out.append(
            details(f"{name_of(kind)}: {len(parts)} folds, {sum(f.rows for f in parts):,} forecasts", made)
        )
    return join(
        [
            el("p", "Each fold was fitted on what was known before it began; its hyperparameters were chosen there as well."),
            *out,
        ]
    )  # fmt: skip


def _chosen(values: Mapping[str, object]) -> str:
    def short(value: object) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{key} {short(value)}" for key, value in values.items()) or "–"


_METHODS = (
    "Pinball loss: the loss that the true quantile makes least, here the mean of 19 levels; half the CRPS where levels are many. Koenker and Bassett, “Regression Quantiles”, "
    "Econometrica 46 (1978).",
    "Winkler score: the width of an interval, and a penalty for each close outside it; lower is better. Gneiting and Raftery, “Strictly Proper Scoring Rules, Prediction, "
    "and Estimation”, JASA 102 (2007), after Winkler, JASA 67 (1972).",
    "Test of equal accuracy: Diebold and Mariano, “Comparing Predictive Accuracy”, JBES 13 (1995), one-sided; with the autocorrelation-consistent variance of Newey and "
    "West, Econometrica 55 (1987), over 24 hours or more, at long horizons twice the horizon; and the correction for small samples and Student’s t of Harvey, Leybourne and Newbold, "
    "International Journal of Forecasting 13 (1997).",
    "Intervals: stationary bootstrap of Politis and Romano, JASA 89 (1994), in blocks of a week on average, the losses of both models drawn together; 95 % of the resampled ratios.",
    "PIT and reliability: Gneiting, Balabdaoui and Raftery, “Probabilistic Forecasts, Calibration and Sharpness”, JRSS B 69 (2007).",
    "Online calibration: adaptive conformal inference, Gibbs and Candès, NeurIPS 34 (2021), as a shift for each horizon and level that fades with time.",
    "Volatility: the root of the summed squared hourly log-returns of the 24 hours before the forecast, as in Andersen, Bollerslev, Diebold and Labys, Econometrica 71 (2003). "
    "The fifths hold equal numbers of hours.",
    "Colours: Okabe and Ito, “Color Universal Design” (2008). Nothing is told by colour alone.",
)  # fmt: skip


def methods() -> Html:
    """Each method with its source."""
    return el(
        "ol", *(el("li", text, id=f"method-{i + 1}") for i, text in enumerate(_METHODS)), class_="methods"
    )
