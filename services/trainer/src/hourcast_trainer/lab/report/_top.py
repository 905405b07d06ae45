"""What comes first: the key figures in words, what was measured, the models side by side, and the promises."""

from collections.abc import Sequence
from datetime import datetime

from hourcast.contracts import HOUR_S, from_epoch
from hourcast_trainer.lab.analysis import JUDGED_MONTH_H, LIMITS, Analysis, KindResult, Verdict
from hourcast_trainer.lab.report._content import SEED, About, Fold
from hourcast_trainer.lab.report._html import NBSP, Html, el, join, number, percent, ratio, signed
from hourcast_trainer.lab.report._parts import (
    classes,
    day,
    figure,
    mark,
    name_of,
    note,
    reference_name,
    table,
    the,
    told_p,
    told_range,
    unbroken,
)

__all__ = ["headline", "measured", "models", "promises"]


def headline(analysis: Analysis, about: About) -> tuple[str, Html]:
    """The key figures in one sentence; and in a paragraph, and as tiles."""
    lead = analysis.whole.kinds[analysis.headline]
    total, other = lead.total, reference_name(analysis.reference)
    gain = 1 - total.pinball_ratio
    if gain > 0 and lead.next_hour.p < LIMITS.p:
        sentence = f"The next hour is forecast {percent(gain)} better than by {other}"
    elif gain > 0:
        sentence = f"The next hour is forecast {percent(gain)} better than by {other}, which may be luck"
    else:
        sentence = f"The next hour is forecast no better than by {other}"
    off = total.coverage_90 - LIMITS.coverage
    honest = abs(off) <= LIMITS.coverage_margin
    sentence += f", with intervals that {'hold what they say' if honest else 'are too wide' if off > 0 else 'are too narrow'}"
    unmet = [unbroken(v.promise) for v in lead.verdicts if not v.met]
    text = [
        f"Over {total.n:,} hours that it had not seen ({day(analysis.whole.span.start_s)} to {day(int(analysis.origin[-1]))}, {about.symbol}), "
        f"{the(analysis.headline)} lost {number(total.pinball, 2)} {about.currency} of pinball loss",
        note(1),
        f" an hour where {other} lost {number(total.pinball / total.pinball_ratio, 2)}; over all {analysis.horizons} horizons it is "
        f"{_better(1 - total.pinball_all_ratio)}. Its 90{NBSP}% interval held {percent(total.coverage_90)} of the closes, with a Winkler score",
        note(2),
        f" {_lower(1 - total.winkler_ratio)}. Its point forecast has an RMSE of {number(total.rmse, 1)} {about.currency}, "
        f"{ratio(total.rmse_ratio)} times that of {other}. ",
    ]
    if unmet:
        text.append(
            f"{len(lead.verdicts) - len(unmet)} of {len(lead.verdicts)} promises are met. Not met: {'; '.join(unmet)}."
        )
    else:
        text.append(f"All {len(lead.verdicts)} promises are met.")
    for part in analysis.spans:
        if part.span.name == "untouched":
            fresh = part.kinds[analysis.headline].total
            text.append(
                f" On the {fresh.n:,} hours from {day(part.span.start_s)} on, at which nobody looked while choosing, it is "
                f"{_better(1 - fresh.pinball_ratio)}, and its interval held {percent(fresh.coverage_90)}."
            )
    return sentence, join([el("p", *text, class_="lede"), _tiles(lead)])


def _better(share: float) -> str:
    return f"{percent(abs(share))} {'better' if share >= 0 else 'worse'}"


def _lower(share: float) -> str:
    return f"{percent(abs(share))} {'lower' if share >= 0 else 'higher'}"


def _tiles(lead: KindResult) -> Html:
    total = lead.total
    met = sum(v.met for v in lead.verdicts)
    entries = (
        ("pinball loss, 1\N{NO-BREAK SPACE}h", signed(total.pinball_ratio - 1), f"at most {signed(LIMITS.pinball_ratio - 1, 0)}",
         total.pinball_ratio <= LIMITS.pinball_ratio),
        ("pinball loss, all horizons", signed(total.pinball_all_ratio - 1), "below zero",
         total.pinball_all_ratio < LIMITS.pinball_all_ratio),
        ("Winkler score, 90\N{NO-BREAK SPACE}%", signed(total.winkler_ratio - 1), f"at most {signed(LIMITS.winkler_ratio - 1, 0)}",
         total.winkler_ratio <= LIMITS.winkler_ratio),
        ("in the 90\N{NO-BREAK SPACE}% interval", percent(total.coverage_90), f"90 ± {100 * LIMITS.coverage_margin:g}{NBSP}%",
         abs(total.coverage_90 - LIMITS.coverage) <= LIMITS.coverage_margin),
        ("RMSE of the median", f"×{NBSP}{number(total.rmse_ratio, 4)}", f"at most ×{NBSP}{LIMITS.point_ratio:g}",
         total.rmse_ratio <= LIMITS.point_ratio),
        ("promises met", f"{met} of {len(lead.verdicts)}", "listed below", met == len(lead.verdicts)),
    )  # fmt: skip
    return el(
        "ul",
        *(
            el(
                "li",
                el("span", label, class_="label"),
                el("strong", value),
                el("span", mark(good), limit, class_="limit"),
            )
            for label, value, limit, good in entries
        ),
        class_="tiles",
    )


def _when(moment_s: int) -> str:
    return f"{from_epoch(moment_s):%Y-%m-%d %H:%M}"


def measured(analysis: Analysis, about: About, folds: Sequence[Fold], made_at: datetime) -> Html:
    """What was forecast and from what, so that it can be done again."""
    whole = analysis.whole
    counted = whole.kinds[analysis.headline].total.n
    kinds, steps = len({f.kind for f in folds}), len({(f.start, f.end) for f in folds})
    unshared = {kind: n for kind, n in analysis.dropped.items() if n}
    window = (
        "the last close, and around it the quantiles of the returns of the last 720 hours, at each horizon"
    )
    facts = [
        ("series", f"{about.symbol}, in {about.currency}{' (synthetic bars)' if about.synthetic else ''}"),
        ("hours", f"{counted:,} forecasts of the next hour, made {_when(whole.span.start_s)} to {_when(int(analysis.origin[-1]))} UTC"),
        *([("left out", ", ".join(f"{n:,} hours of {name_of(k)}" for k, n in unshared.items()) + ", which another model lacks")] if unshared else []),
        ("forecast", f"{len(analysis.levels)} quantiles of the close 1 … {analysis.horizons} hours ahead"),
        ("reference", f"{name_of(analysis.reference)}: {window}" if analysis.reference == "naive" else name_of(analysis.reference)),
        ("folds", f"{steps} folds, {kinds} kinds" if folds else "–"),
        ("refits", about.refit),
        ("window", about.window),
        ("embargo", about.embargo),
        ("choices", about.chosen),
        ("data", f"fingerprint {about.data_fingerprint}"),
        ("code", f"version {about.code_version}"),
        ("made", f"{made_at:%Y-%m-%d %H:%M} UTC by "),
    ]  # fmt: skip
    made = el(
        "dl",
        *(
            join([el("dt", key), el("dd", value, *([el("code", about.command)] if key == "made" else []))])
            for key, value in facts
        ),
        class_="facts",
    )
    return join([made, *(el("p", text) for text in about.notes)])


def models(analysis: Analysis, about: About) -> Html:
    """Every model and the reference; of Bitcoin the seed too."""
    head = [
        "model", f"pinball, 1{NBSP}h", "better by", f"95{NBSP}% of it", "p", "better by, all horizons", "Winkler", "better by", f"in 90{NBSP}%",
        "RMSE", "× ref.", "MAE × ref.",
    ]  # fmt: skip
    rows: list[tuple[str, Sequence[str]]] = []
    for kind, result in analysis.whole.kinds.items():
        total, plain = result.total, kind == analysis.reference
        rows.append(
            (
                name_of(kind),
                [
                    number(total.pinball, 2),
                    "–" if plain else signed(1 - total.pinball_ratio),
                    "–" if plain else told_range(result.next_hour_interval),
                    "–" if plain else told_p(result.next_hour.p),
                    "–" if plain else signed(1 - total.pinball_all_ratio),
                    number(total.winkler, 0),
                    "–" if plain else signed(1 - total.winkler_ratio),
                    percent(total.coverage_90),
                    number(total.rmse, 1),
                    ratio(total.rmse_ratio),
                    ratio(total.mae_ratio),
                ],
            )
        )
    beside = SEED.compares(about)
    if beside:
        rows.append(
            ("the seed", [*(["–"] * 8), number(SEED.rmse, 0), ratio(SEED.rmse / SEED.reference_rmse), "–"])
        )
    made = table(
        f"One hour ahead in {about.currency}, on the same hours",
        head,
        rows,
        lead=name_of(analysis.headline),
        foot=[
            "better by: the share by which the mean loss lies below the reference’s, with a bootstrap’s interval", note(4), ". p: Diebold–Mariano test", note(3),
            " of “no better than the reference”, one-sided.",
            " The seed was measured on hours of its own, by which all are compared here:" if beside else "",
        ],
    )  # fmt: skip
    return join([made, _beside_seed(analysis, about)]) if beside else made


def _beside_seed(analysis: Analysis, about: About) -> Html:
    n, errors = analysis.rmse_between(SEED.start_s, SEED.end_s)
    told = el(
        "p",
        "The seed is the teaching system that this one grew from. One hour ahead it scored an RMSE of ",
        el("strong", f"{number(SEED.rmse)} {about.currency}"),
        f" over {SEED.start} to {SEED.end}, where “the price stays” scores {number(SEED.reference_rmse)}.",
    )
    if not n:
        return join([told, el("p", "None of those hours is in this walk.")])
    hours = (SEED.end_s - SEED.start_s) // HOUR_S
    most = max(SEED.rmse, *errors.values())
    colours = classes(analysis)
    entries = [
        *((name_of(kind), errors[kind], colours[kind].split()[0], 1) for kind in analysis.kinds),
        ("the seed", SEED.rmse, "seed", 0),
    ]
    shown = el(
        "ul",
        *(
            el(
                "li",
                el("span", name),
                el("span", class_=f"bar {colour}", style=f"width:{100 * value / most:.1f}%"),
                el("span", number(value, digits)),
            )
            for name, value, colour, digits in entries
        ),
        class_="bars",
    )
    caption = f"RMSE one hour ahead in {about.currency}, on the {n:,} of the seed’s {hours:,} hours that are in this walk. Shorter is better."
    return join([told, figure(shown, caption)])


def promises(analysis: Analysis) -> Html:
    """Each promise against what was measured, over each span."""
    columns = [(part.span, part.kinds[analysis.headline].verdicts) for part in analysis.spans]

    def cell(verdict: Verdict | None) -> Html:
        if verdict is None:
            return el("td", "–")
        where = el("span", f" {verdict.where}", class_="where") if verdict.where else Html("")
        return el("td", mark(verdict.met), unbroken(verdict.told), where)

    rows = []
    for verdict in columns[0][1]:
        same = [next((v for v in part if v.promise == verdict.promise), None) for _, part in columns]
        rows.append((unbroken(verdict.promise), [unbroken(verdict.limit), *(cell(v) for v in same)]))
    names = {"whole": "the whole span", "chosen on": "chosen on", "untouched": "untouched"}
    spans = [
        join([names[s.name], el("br"), el("span", f"{day(s.start_s)} to {day(s.end_s)}", class_="date")])
        for s, _ in columns
    ]
    foot = f"Of {the(analysis.headline)}. Months of fewer than {JUDGED_MONTH_H} hours are shown below and not judged here."
    if len(columns) > 1:
        foot += f" All choices were made on hours before {day(columns[-1][0].start_s)}; nobody looked at later ones until the choices were made."
    return table("Promised and measured", ["promise", "limit", *spans], rows, foot=[foot], class_="promises")
