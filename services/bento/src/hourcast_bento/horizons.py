"""Hours ahead as a question names them: `6`, a range `1..24`, a list `1,6,24`."""

__all__ = ["FORMS", "FURTHEST_H", "parse_horizons"]

FURTHEST_H = 24
FORMS = ("6", "1..24", "1,6,24")


def parse_horizons(text: str) -> tuple[int, ...]:
    """Read hours ahead; ranges and numbers may be mixed. Ascending, each once.

    Raises:
        ValueError: when the text is none of the three forms, or names hours that are not forecast.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        bounds = [word.strip() for word in part.split("..")]
        if len(bounds) > 2 or not all(word.isascii() and word.isdigit() for word in bounds):
            raise ValueError(
                f"{part.strip()!r} is not a number of hours; write 6, a range as 1..{FURTHEST_H}, or a list as 1,6,24"
            )
        first, last = (int(word[:9]) for word in (bounds[0], bounds[-1]))
        for hours in (first, last):
            if not 1 <= hours <= FURTHEST_H:
                raise ValueError(f"{hours} h is not forecast; give 1 to {FURTHEST_H}")
        if first > last:
            raise ValueError(f"the range {first}..{last} is empty; write {last}..{first}")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))
