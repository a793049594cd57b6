"""Numbers in words: rates, intervals, counts, and the sentences of the headline.

Digits are as many as an interval bears, and never more.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefkit.evaluation.intervals import digits
from prefkit.evaluation.report.rates import Wins
from prefkit.evaluation.win_rates import WinRate
from prefkit.resampling import Figure

FEW = 20


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{100 * value:.{digits(low, high) if low is not None else 0}f}%"


def ends(low: float | None, high: float | None) -> str:
    """An interval of a share, in per cent."""
    if low is None or high is None:
        return ""
    places = digits(low, high)
    return f"[{100 * low:.{places}f}, {100 * high:.{places}f}]"


def both(value: float | None, low: float | None, high: float | None) -> str:
    """A share with its interval."""
    return f"{percent(value, low, high)} {ends(low, high)}".strip()


def rate(one: WinRate) -> str:
    """A win rate with its interval; says where there are too few prompts for one."""
    return both(one.rate, one.low, one.high) if one.rate is not None else "too few"


def points(value: float | None, low: float | None, high: float | None) -> str:
    """A difference of shares in points, with its interval where there is one."""
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{100 * value:+.1f}".replace("-", "−")
    places = digits(low, high)
    return f"{100 * value:+.{places}f} [{100 * low:+.{places}f}, {100 * high:+.{places}f}]".replace("-", "−")


def figure(one: Figure, *, share: bool) -> str:
    """A measured figure with its interval."""
    if one.value is None:
        return "–"
    if share:
        return both(one.value, one.low, one.high)
    interval = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.2f}{interval}"


def count(number: float, noun: str, plural: str = "") -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{number:,.0f} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence."""
    shown = list(names[:most])
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1] if shown else "nobody"


# ------------------------------------------------------------------------------------------------ the headline


def title(wins: Wins) -> str:
    """What the first rate comes to, in one line."""
    one = wins.main[1]
    if one.rate is None:
        return "One prompt says nothing about who is preferred"
    if one.ties == one.comparisons:
        return "Every comparison is a tie"
    if not wins.decided:
        return f"{wins.policy} or {wins.baseline}: these data do not tell"
    better, worse = (wins.policy, wins.baseline) if one.rate > 0.5 else (wins.baseline, wins.policy)
    return f"{better} is preferred to {worse}"


def headline(wins: Wins, judged_by: str) -> list[str]:
    """The first rate in sentences that need no statistics."""
    one = wins.main[1]
    if one.rate is None or one.low is None or one.high is None:
        counts = f"{count(one.wins, 'win')}, {count(one.ties, 'tie')}, {count(one.losses, 'loss', 'losses')}"
        return [f"There is one prompt ({counts}). A share of it would mean nothing: ask about more."]
    low, high = _apart_from_half(one.low, one.high)
    first = (
        f"Shown what {count(one.prompts, 'client')} said and two answers to it, {judged_by} preferred the answer of "
        f"{wins.policy} to that of {wins.baseline} in {100 * one.rate:.0f} of 100 cases (a tie counts half)."
    )
    said = [first]
    if one.ties == one.comparisons:
        said = [f"All {count(one.comparisons, 'comparison')} are ties: nothing speaks for either side."]
    said.append(f"With other clients like these it would be between {low} and {high} of 100.")
    if wins.decided and one.ties != one.comparisons:
        better = wins.policy if one.rate > 0.5 else wins.baseline
        said.append(f"All of that range lies on one side of 50, so {better} is the preferred one here.")
    elif one.decided and one.ties != one.comparisons:
        said.append(
            "All of that range lies on one side of 50, but the two were chosen by these data, as the first on the "
            "board, and over the whole board they cannot be told apart."
        )
    else:
        said.append("That range holds 50, so these data do not tell which of the two is preferred.")
    if one.prompts < FEW:
        said.append(f"{count(one.prompts, 'prompt').capitalize()} are very few: the share may be luck.")
    if wins.chosen and wins.decided == one.decided:
        said.append("The two were chosen by these data, as the first on the board, which flatters the difference.")
    return said


def _apart_from_half(low: float, high: float) -> tuple[str, str]:
    """The ends of an interval in a hundred, with as many digits as it takes to see on which side of 50 they lie."""
    places = digits(low, high)
    while places < 4 and "50" in (f"{100 * end:.{places}f}".rstrip("0").rstrip(".") for end in (low, high)):
        places += 1
    return f"{100 * low:.{places}f}", f"{100 * high:.{places}f}"


def judged_by(people: int, models: int, by: str) -> str:
    """Who said it, at the place of the subject."""
    if by != "judgements":
        return "the reward model"
    if people:
        return "one person" if people == 1 else f"{people:,} people"
    return "one model" if models == 1 else f"{models:,} models"
