"""Challengers that are no better than the champion, made to look so in every way that luck has; and some that are.

`python -m tests.placebos --trials 1000` prints how often each wins, `--data DIR` on recorded bars up to 2025-04-30.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hourcast.contracts import HOUR_S, Bars, FloatArray, parse_hour, to_epoch
from hourcast.forecaster import LEVELS, naive_quantiles
from hourcast_trainer.champion import Challenge, challenge
from hourcast_trainer.gate import Look, decide, level_of_look, pooled
from hourcast_trainer.measuring import Measured
from hourcast_trainer.paired import daily, daily_test, mean_test, paired_test, student_tail

__all__ = [
    "BETTER",
    "DAYS",
    "GATE_LEVEL",
    "LEVEL",
    "MARGIN",
    "PLACEBOS",
    "Span",
    "gate_passes",
    "hold",
    "recorded_pair",
    "recorded_spans",
    "recorded_years",
    "synthetic_span",
    "windows",
    "wins",
    "years",
]

DAYS, LEVEL, MARGIN, GATE_LEVEL = 42, 0.025, 0.02, 0.1
_FITTED = 2000
_CENTRE = LEVELS.index(0.5)
# Nothing from later on is looked at while figures are chosen.
_LAST = parse_hour("2025-04-30T00:00Z")
_SPREAD = np.quantile(np.random.default_rng(0).standard_t(4, 400_000), LEVELS)
_SPREAD = (_SPREAD - _SPREAD[::-1]) / 2
Rng = np.random.Generator


@dataclass(frozen=True)
class Span:
    """Hours of a market: `origin` (n,), `last` and `actual` (n,) closes, and two honest forecasts (n, Q) of them.

    `sharp` knows more than `blunt`.
    """

    origin: np.ndarray
    last: FloatArray
    actual: FloatArray
    sharp: FloatArray
    blunt: FloatArray

    def measured(self, quantiles: FloatArray) -> Measured:
        """Forecasts as the trainer measures them, one hour ahead."""
        return Measured(self.origin, self.last, quantiles[:, None, :], self.actual[:, None])

    def widened(self, quantiles: FloatArray, factor: FloatArray | float) -> FloatArray:
        """Intervals made wider by a factor or by one for each hour."""
        centre = quantiles[:, _CENTRE : _CENTRE + 1]
        made: FloatArray = centre + np.reshape(factor, (-1, 1)) * (quantiles - centre)
        return made


def _held(rng: Rng, n: int, hours: int, size: float) -> FloatArray:
    """Log-normal errors (n,) that stay the same for some hours."""
    drawn = np.exp(rng.normal(0, size, n // hours + 2))
    return np.repeat(drawn, hours)[rng.integers(0, hours) :][:n]


def synthetic_span(rng: Rng, days: int = DAYS) -> Span:
    """Heavy-tailed returns whose spread wanders over days and breathes with the hour; `blunt` is 3 % worse."""
    n = days * 24
    wander = np.empty(n)
    decay = 0.5 ** (1 / 36)
    steps = rng.normal(0, 0.45 * np.sqrt(1 - decay**2), n)
    wander[0] = rng.normal(0, 0.45)
    for i in range(1, n):
        wander[i] = decay * wander[i - 1] + steps[i]
    scale = 0.004 * np.exp(wander + 0.3 * np.sin(np.arange(n) * 2 * np.pi / 24))
    moves = scale * rng.standard_t(4, n)
    close = 60_000 * np.exp(np.concatenate([[0.0], np.cumsum(moves)]))
    last, actual = close[:-1], close[1:]
    sharp = last[:, None] * np.exp(scale[:, None] * _SPREAD)
    origin = to_epoch(parse_hour("2024-06-03")) + HOUR_S * np.arange(n)
    span = Span(origin, last, actual, sharp, sharp)
    return Span(origin, last, actual, sharp, span.widened(sharp, _held(rng, n, 24, 0.41)))


def recorded_pair(bars: Bars, horizons: Sequence[int] = (1,)) -> tuple[Measured, Measured]:
    """Every recorded hour up to 2025-04-30 as the naive floor and a plain volatility model forecast it.

    The model: three moving averages of the range variance times the hour of the week, and the quantiles of what was left
    over in the first weeks, which are not judged.
    """
    bars = bars.known_at(to_epoch(_LAST))
    log_close = np.log(bars.close)
    ranges = np.log(bars.high / bars.low) ** 2 / (4 * np.log(2))
    hour = bars.close_time // HOUR_S % 168
    season = np.bincount(hour[:_FITTED], ranges[:_FITTED], 168) / np.bincount(hour[:_FITTED], minlength=168)
    season = np.convolve(np.tile(season, 3), np.ones(5) / 5, "same")[168:336]
    level = np.zeros(len(ranges))
    for half_life, weight in ((6, 0.35), (36, 0.35), (240, 0.3)):
        decay, at = 0.5 ** (1 / half_life), ranges[:200].mean()
        for i, value in enumerate(ranges / season[hour]):
            at = decay * at + (1 - decay) * value
            level[i] += weight * np.sqrt(at)
    place = np.arange(_FITTED, len(bars) - max(horizons))
    place = place[np.diff(bars.close_time)[place] == HOUR_S]
    blunt, last, usable = naive_quantiles(bars, bars.close_time[place], horizons)
    assert usable.all()
    sharp = np.empty_like(blunt)
    for j, h in enumerate(horizons):
        ahead = level * np.sqrt(sum(season[(hour + k) % 168] for k in range(1, h + 1)))
        moves = log_close[h:] - log_close[:-h]
        standard = np.quantile(moves[400 : _FITTED - h] / ahead[400 : _FITTED - h], LEVELS)
        sharp[:, j] = last[:, None] * np.exp(ahead[place, None] * (standard - standard[_CENTRE]))
    actual = bars.close[place[:, None] + np.array(horizons)]
    origin = bars.close_time[place]
    return Measured(origin, last, blunt, actual), Measured(origin, last, sharp, actual)


def windows(
    pair: tuple[Measured, Measured], days: int, every_days: int
) -> Iterator[tuple[Measured, Measured]]:
    """Cut into spans of some days that begin at midnight."""
    origin = pair[0].origin
    firsts = np.flatnonzero(origin % (86_400 * every_days) == 0)
    for first in firsts[firsts + days * 24 <= len(origin)]:
        index = np.arange(first, first + days * 24)
        yield pair[0].take(index), pair[1].take(index)


def recorded_spans(bars: Bars, days: int = DAYS) -> Callable[[Rng], Span]:
    """Draws spans of recorded hours: `blunt` is the naive floor, `sharp` a plain volatility model."""
    spans = [
        Span(naive.origin, naive.last_close, naive.actual[:, 0], model.quantiles[:, 0], naive.quantiles[:, 0])
        for naive, model in windows(recorded_pair(bars), days, 1)
    ]
    return lambda rng: spans[int(rng.integers(len(spans)))]


def gate_passes(bars: Bars, margin: float = MARGIN, level: float = GATE_LEVEL) -> list[bool]:
    """For each fortnight, a week apart, whether a plain volatility model passes its gate against naive."""
    pair = recorded_pair(bars, (1, 2, 4, 8, 12, 18, 24))
    return [decide(model, {"naive": naive}, margin, level).passed for naive, model in windows(pair, 14, 7)]


@dataclass(frozen=True)
class Year:
    """Which of a year's weekly looks (k,) are passed: each at a level of its own, and at one for all of them."""

    alone: np.ndarray
    together: np.ndarray


def year_of_looks(gain: FloatArray, origin: np.ndarray, level: float = GATE_LEVEL) -> Year:
    """A look each week at the fortnight before it, over hourly gains (n,) within the margin that begin at midnight."""
    days = daily(gain, origin)
    first = int(origin[0]) // 86_400
    earlier: list[Look] = []
    alone, together = [], []
    for start in range(0, len(days) - 13, 7):
        own = {first + start + i: float(days[start + i]) for i in range(14)}
        alone.append(daily_test(days[start : start + 14], 0.0).p < level)
        test, number = pooled(earlier, "loss", own)
        together.append(alone[-1] and test.p < level_of_look(number, level))
        earlier.append({"loss": own})
    return Year(np.array(alone), np.array(together))


def years(times: float, count: int, seed: int, looks: int = 52) -> list[Year]:
    """Drawn years of a candidate whose intervals are `times` as wide as they should be, beside one without a fault."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        span = synthetic_span(rng, 14 + 7 * (looks - 1))
        naive, model = (span.measured(q) for q in (span.sharp, span.widened(span.sharp, times)))
        out.append(year_of_looks((1 + MARGIN) * naive.next_hour_loss - model.next_hour_loss, span.origin))
    return out


def recorded_years(bars: Bars, looks: int = 26) -> list[Year]:
    """Recorded half-years, begun at each Monday, of a plain volatility model beside the naive floor, one hour ahead."""
    naive, model = recorded_pair(bars)
    gain = (1 + MARGIN) * naive.next_hour_loss - model.next_hour_loss
    size = (14 + 7 * (looks - 1)) * 24
    firsts = np.flatnonzero(naive.origin % (7 * 86_400) == 4 * 86_400)
    parts = (slice(first, first + size) for first in firsts[firsts + size <= len(gain)])
    return [year_of_looks(gain[part], naive.origin[part]) for part in parts]


def sizes(bars: Bars, trials: int, days: int = 14, level: float = 0.05) -> tuple[float, float]:
    """How often there is proof at a level where there is nothing to prove: by hours as is usual, and by days.

    The losses of naive less those of the volatility model, with the sign of each day drawn anew.
    """
    naive, model = recorded_pair(bars)
    gain = naive.next_hour_loss - model.next_hour_loss
    firsts = np.flatnonzero(naive.origin % 86_400 == 0)
    firsts = firsts[firsts + days * 24 <= len(gain)]
    rng = np.random.default_rng(7)
    hourly = daily = 0
    for first in rng.choice(firsts, trials):
        part = slice(first, first + days * 24)
        drawn = gain[part] * np.repeat(rng.choice([-1, 1], days), 24)
        hourly += student_tail(mean_test(drawn, 24)[0], days * 24 - 1) < level
        daily += paired_test(drawn, naive.origin[part]).p < level
    return hourly / trials, daily / trials


Pair = tuple[FloatArray, FloatArray]


def _equals(span: Span, rng: Rng) -> Pair:
    """Both have the same errors of width, each its own, for a day to a fortnight at a time."""
    n = len(span.origin)
    hours = int(rng.choice([24, 72, 168, 336]))
    return (
        span.widened(span.sharp, _held(rng, n, hours, 0.1)),
        span.widened(span.sharp, _held(rng, n, hours, 0.1)),
    )


def _takes_turns(span: Span, rng: Rng) -> Pair:
    """Each knows more than the other for a day or two by a coin, so that they differ much and neither is better."""
    hours = int(rng.choice([24, 48]))
    coin = np.repeat(rng.integers(0, 2, len(span.origin) // hours + 1), hours)[: len(span.origin), None] > 0
    return np.where(coin, span.sharp, span.blunt), np.where(coin, span.blunt, span.sharp)


def _luck(span: Span, rng: Rng, hours: int, pair: Pair) -> Pair:
    first = int(rng.integers(0, len(span.origin) - hours))
    seen = pair[1].copy()
    share = float(rng.uniform(0.2, 0.8))
    here = slice(first, first + hours)
    seen[here] = (1 - share) * seen[here] + share * span.actual[here, None]
    return pair[0], seen


def _lucky_day(span: Span, rng: Rng) -> Pair:
    """No better, but for 24 hours in which it seems to know what comes."""
    return _luck(span, rng, 24, (_equals, _takes_turns)[int(rng.integers(2))](span, rng))


def _lucky_week(span: Span, rng: Rng) -> Pair:
    """No better, but for 168 hours in which it seems to know what comes."""
    return _luck(span, rng, 168, (_equals, _takes_turns)[int(rng.integers(2))](span, rng))


def _mood(span: Span, rng: Rng) -> Pair:
    """The champion itself with wider or narrower intervals, which fit a calm or a wild season."""
    return span.sharp, span.widened(span.sharp, float(rng.choice([0.75, 0.9, 1.1, 1.3])))


def _better(span: Span, rng: Rng) -> Pair:
    return span.blunt, span.sharp


PLACEBOS: Mapping[str, Callable[[Span, Rng], Pair]] = {
    "equal": _equals,
    "takes turns": _takes_turns,
    "lucky day": _lucky_day,
    "lucky week": _lucky_week,
    "mood of the season": _mood,
}
BETTER = _better


def hold(span: Span, pair: Pair, level: float = LEVEL) -> Challenge:
    """The challenge as the trainer holds it: champion first, challenger second."""
    champion, challenger = (span.measured(part) for part in pair)
    return challenge(challenger, champion, "version 1", level=level, margin=MARGIN, gate_level=GATE_LEVEL)


def wins(
    draw: Callable[[Rng], Span],
    make: Callable[[Span, Rng], Pair],
    trials: int,
    seed: int,
    level: float = LEVEL,
) -> int:
    """How many of so many challenges are won."""
    rng = np.random.default_rng(seed)
    count = 0
    for _ in range(trials):
        span = draw(rng)
        count += hold(span, make(span, rng), level).won
    return count


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--level", type=float, default=LEVEL)
    parser.add_argument("--days", type=int, default=DAYS)
    chosen = parser.parse_args()
    draw: Callable[[Rng], Span] = lambda rng: synthetic_span(rng, chosen.days)  # noqa: E731
    if chosen.data is not None:
        from tests.conftest import read_market

        bars = read_market(chosen.data / "btc_1h.csv", "BTC/USDT")
        draw = recorded_spans(bars, chosen.days)
        for level in (0.01, 0.05, 0.1):
            hourly, daily = sizes(bars, 4000, level=level)
            print(
                f"{f'nothing, at {level:g}':20} {hourly:7.2%} proved by hours with 24 lags, {daily:.2%} by days"
            )
        passed = gate_passes(bars)
        halves = recorded_years(bars)
        print(
            f"{'a half-year of looks':20} {np.mean([y.together.mean() for y in halves]):7.2%} of looks are passed by it, "
            f"{np.mean([y.alone.mean() for y in halves]):.2%} if each were the only one"
        )
        print(
            f"{'gate':20} {np.mean(passed):7.2%} of {len(passed)} fortnights are passed by a plain volatility model"
        )
    for name, make in {**PLACEBOS, "better": BETTER}.items():
        begun = time.monotonic()
        share = wins(draw, make, chosen.trials, 7, chosen.level) / chosen.trials
        print(f"{name:20} {share:7.2%} of {chosen.trials} win ({time.monotonic() - begun:.1f} s)")


if __name__ == "__main__":
    _main()
