"""What speaks against a selected pair.

A pair that is left out is counted under the first reason against it, in this order: its prompt is excluded, a gate
forbids it, its words make no pair, its prompt has enough wider ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prefkit.pairs.aggregate import gap
from prefkit.pairs.collect import Floats
from prefkit.pairs.evidence import Evidence
from prefkit.pairs.select import Candidates, strongest
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.texts import longer_than, text_objections
from prefkit.pairs.votes import support
from prefkit.rubric import Gate

EXCLUDED = "prompt excluded by screening"
Kept = npt.NDArray[np.bool_]


def filtered(
    evidence: Evidence,
    pairs: Candidates,
    settings: PairSettings,
    report: PairReport,
    open_bar: Callable[[int], Callable[[int], None]],
) -> Candidates:
    """The pairs that nothing speaks against; the others are counted in ``report.dropped``.

    ``open_bar`` opens a progress bar, given how many pairs of texts there are to compare.
    """
    pairs = drop(pairs, _wanted_prompt(evidence, pairs), EXCLUDED, report)
    for gate in evidence.rubric.gates if settings.gates else ():
        pairs = drop(pairs, _passes_either_way(evidence, pairs, gate), _forbidden_by(gate), report)
    too_long = longer_than(settings.max_chars, settings.max_tokens, settings.tokenizer)
    responses, progress = evidence.collected.responses, open_bar(len(pairs))
    reasons = text_objections(responses, pairs, settings.near_identical, too_long, progress)
    fit = np.asarray([reason is None for reason in reasons], dtype=bool)
    report.dropped.update(Counter(reasons[~fit].tolist()))
    pairs = pairs[fit]
    if settings.per_prompt:
        keep = widest(evidence, pairs, settings.per_prompt)
        pairs = drop(pairs, keep, f"beyond {settings.per_prompt} pairs of one prompt", report)
    return pairs


def drop(pairs: Candidates, keep: Kept, reason: str, report: PairReport) -> Candidates:
    """The pairs to keep; the others are counted under ``reason``."""
    if not keep.all():
        report.dropped[reason] += int((~keep).sum())
    return pairs[keep]


def widest(evidence: Evidence, pairs: Candidates, most: int) -> Kept:
    """Which pairs are among the ``most`` of the widest gap of their prompt."""
    gaps: Floats = np.nan_to_num(evidence.gap(pairs), nan=0.0)
    return strongest(pairs, gaps, evidence.collected.responses.prompt, most)


def _wanted_prompt(evidence: Evidence, pairs: Candidates) -> Kept:
    wanted = np.asarray([prompt.excluded is None for prompt in evidence.collected.prompts], dtype=bool)
    return wanted[evidence.collected.responses.prompt[pairs.chosen]]


def _forbidden_by(gate: Gate) -> str:
    if gate.value is not None:
        return f"gate: chosen side below {gate.value:g} on {gate.principle}"
    return f"gate: chosen side lower on {gate.principle}"


def _passes_either_way(evidence: Evidence, pairs: Candidates, gate: Gate) -> Kept:
    """Which pairs a gate lets through; a tie must pass with either side as the chosen one."""
    keep = _passes(evidence, pairs, gate)
    ties = pairs[pairs.tied]
    keep[pairs.tied] &= _passes(evidence, Candidates(ties.rejected, ties.chosen, ties.tied), gate)
    return keep


def _passes(evidence: Evidence, pairs: Candidates, gate: Gate) -> Kept:
    """Which pairs a gate lets through; what was compared and not rated is judged by the principle's own comparisons.

    A pair about which nothing is known on the principle passes.
    """
    column = evidence.rubric.principle_ids.index(gate.principle)
    if gate.value is not None:
        return ~(gap(evidence.rated[pairs.chosen, column], gate.value) < 0)
    difference = evidence.gaps(pairs)[:, column]
    keep: Kept = ~(difference < 0)
    unrated = np.flatnonzero(np.isnan(difference))
    if len(unrated):
        compared = support(evidence.collected, pairs[unrated], np.empty(0), evidence.votes, ratings=False)
        keep[unrated] = ~(compared.by_principle[:, column] < 0.5)
    return keep
