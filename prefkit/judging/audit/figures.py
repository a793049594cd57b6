"""What an audit measures, figure by figure.

Reads   what ``reading`` brings of a run, one judge at a time, overall or for one principle
Gives   figures, each with its number of verdicts and prompts, interval, null value, p-value and smallest visible effect

Which value a figure stands for:

    order.same_verdict       pairs asked in both orders: P(the same verdict), a tie both times included
    order.flips              ... with a winner both times: P(another winner after the swap)
    order.first              ... P(a verdict that names a winner names the response shown first); 1/2 without a
                             preference, whatever the merits, since each pair stands in both orders
    order.first_when_flipped ... with another winner after the swap: P(the one shown first, both times)
    choice.position_I_of_K   best of K: P(the I-th is named), against 1/K
    length.longer            P(a verdict that names a winner names the longer response), lengths being unequal
    length.slope             log-odds to win for a standard deviation more of log length, the order shown held constant
    length.longest_of_K      best of K: P(the longest is named), against 1/K
    length.beyond_people     share of wins of the longer, the judge's less people's, over the pairs that both judged
    length.rating_*          correlation of score and log length within prompts
    family.compared, .rated  share of wins of its own family's response, the judge's less the other annotators', over
                             the pairs that both judged; a tie is half a win
    saturation.*, missing.*, samples.*   as their sentences say

A null value is given, and tested, where a judge without the bias has a known one. How often a judge agrees with itself
or leaves something out has none: its interval is the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefkit.judging.audit.families import Families
from prefkit.judging.audit.figure import Figure
from prefkit.judging.audit.length import length_figures
from prefkit.judging.audit.order import choice_figures, order_figures
from prefkit.judging.audit.own_family import family_figures
from prefkit.judging.audit.repeats import missing_figures, sample_figures
from prefkit.judging.audit.saturation import saturation_figures
from prefkit.judging.audit.views import View


def figures_of(seen: View, others: Mapping[int, View], families: Families) -> Iterator[Figure]:
    """All figures of one judge in one view.

    Args:
        seen: the judge.
        others: the same view of the other annotators.
        families: who is whose own.
    """
    yield from order_figures(seen)
    yield from choice_figures(seen)
    yield from length_figures(seen, others)
    if not seen.column:
        yield from family_figures(seen, others, families)
    yield from saturation_figures(seen)
    if not seen.column:
        yield from missing_figures(seen)
    yield from sample_figures(seen)
