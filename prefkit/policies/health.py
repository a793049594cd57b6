"""Whether a policy still writes sense: what is wrong with a set of its answers, beside a reference.

Reads   answers, looked at (``prefkit.policies.looking``), and those of a reference: of the policy before training, or
        the preferred ones
Gives   a ``Health``: shares with intervals, drifts, flagged or not by rule, and why in words

Of each answer:
    empty, cut-off, looping, multi-speaker    see ``prefkit.marking``
    language          a piece of 300 characters is surely in another language than the prompt
    strange-words     more of its words, or pairs of neighbouring words, stand neither in the reference nor in its
                      prompt than is usual there
    unfit             any of these but cut-off
Of each prompt:
    same-elsewhere    an answer that is nearly the same as one to another prompt
    same-samples      two samples that are nearly the same
Of all answers:
    words             how long they are
    distinct-1, -2    different words and pairs of neighbouring words, as a share of all, among equally many words
    logprob           mean log-probability of a token under the policy itself, where answers have one

The rules. A share is flagged where it lies above the reference's beyond chance: the 95% interval of the difference
(Newcombe's, of two Wilson intervals) begins above a limit. Several samples of a prompt count for as many answers as
would spread as much. The length is flagged where the interval of the ratio of means lies beyond 1.5 or below 1 / 1.5
(not below where more than half of the answers are cut off, as nobody knows how long they would be),
``distinct-2`` where it is less than 0.7 or more than 1.35 of the reference's. ``distinct-1`` and ``logprob`` are for
the reader. Without a reference only shares are flagged, except ``cut-off``: they are then compared with none at all.

How many strange words and pairs an answer may have is learnt from the reference, by leaving out each of its answers in
turn. So a text of words that do not belong together is found, too.

How often this is right on real answers is in docs/health.md.
Sources: Wilson 1927, doi:10.1080/01621459.1927.10502953; Newcombe 1998, Statistics in Medicine 17(8), 873-890, method
10; distinct-n, Li et al. 2016, arXiv:1510.03055.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from prefkit.marking import CUT_OFF, EMPTY, LOOPING, MULTI_SPEAKER
from prefkit.policies.looking import LANGUAGE, Answers, Looked
from prefkit.records import Record
from prefkit.resampling import wilson

STRANGE = "strange-words"
UNFIT = "unfit"
SAME_ELSEWHERE = "same-elsewhere"
SAME_SAMPLES = "same-samples"

LIMITS = {
    EMPTY: 0.02,
    CUT_OFF: 0.10,
    LOOPING: 0.02,
    MULTI_SPEAKER: 0.02,
    LANGUAGE: 0.02,
    STRANGE: 0.02,
    UNFIT: 0.05,
    SAME_ELSEWHERE: 0.05,
    SAME_SAMPLES: 0.20,
}
"""By how much a share may lie above the reference's, its interval considered."""
LENGTH = 1.5
"""The factor by which answers may be longer or shorter than the reference's."""
DISTINCT = (0.7, 1.35)
"""Between which the ratio of ``distinct-2`` may lie."""
ENOUGH_WORDS = 500
"""Words that a set has to have for its distinct-n to mean something."""
ENOUGH_ANSWERS = 8
"""Answers that a reference has to have, to say what words are usual."""
SOME_WORDS = 20
"""Words from which an answer can have too many strange ones."""
STRANGE_AT_LEAST = 0.4
"""The share of strange words that any answer may have."""

_MAKE_UNFIT = (EMPTY, LOOPING, MULTI_SPEAKER, LANGUAGE, STRANGE)
_SAYS = {
    EMPTY: "empty answers",
    CUT_OFF: "answers cut off at the limit of tokens",
    LOOPING: "answers that loop",
    MULTI_SPEAKER: "answers that go on with somebody else's turn",
    LANGUAGE: "answers in another language than the prompt",
    STRANGE: "answers of words that the reference does not use",
    UNFIT: "answers that are unfit in some way",
    SAME_ELSEWHERE: "prompts with nearly the same answer as another prompt",
    SAME_SAMPLES: "prompts with nearly the same samples",
}


class Share(Record, frozen=True, kw_only=True):
    """A share with its 95% interval, of ``n`` answers or prompts; ``reference`` is that of the reference."""

    share: float
    low: float
    high: float
    n: int
    reference: float | None = None
    flagged: bool = False


class Drift(Record, frozen=True, kw_only=True):
    """A value beside the reference's; ``ratio`` is how many times as large it is, with a 95% interval where there is
    one."""

    value: float
    reference: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    flagged: bool = False


class Health(Record, frozen=True, kw_only=True):
    """A look at a set of answers; ``why`` says of each flag what it is about."""

    answers: int
    prompts: int
    shares: dict[str, Share]
    drifts: dict[str, Drift]
    flagged: bool
    why: tuple[str, ...] = ()
    step: int | None = None


def health(answers: Answers, reference: Answers | None = None, step: int | None = None) -> Health:
    """Judge a set of answers.

    Args:
        answers: the set.
        reference: what it is compared with, best with answers to the same prompts, sampled in the same way.
        step: of the training, for the record.
    """
    usual = _usual_strangeness(reference)
    marks = [_marks(one, answers, reference, usual) for one in answers.looked]
    before = [_marks(one, reference, reference, usual) for one in reference.looked] if reference else []
    shares: dict[str, Share] = {}
    why: list[str] = []
    for sign, limit in LIMITS.items():
        now, then = _told(sign, answers, marks), _told(sign, reference, before)
        if now is None or (sign == STRANGE and usual is None):
            continue
        shares[sign] = share = _share(now, then, limit, needs_reference=sign == CUT_OFF)
        said = sign == UNFIT and any(shares[one].flagged for one in _MAKE_UNFIT if one in shares)
        if share.flagged and not said:
            why.append(_in_words(sign, share))
    drifts = _drifts(answers, reference)
    why += [_drift_in_words(name, drift) for name, drift in drifts.items() if drift.flagged]
    return Health(
        answers=len(answers.looked),
        prompts=len({one.prompt for one in answers.looked}),
        shares=shares,
        drifts=drifts,
        flagged=bool(why),
        why=tuple(why),
        step=step,
    )


# --- one answer ------------------------------------------------------------------------------------------------------


def _strangeness(one: Looked, answers: Answers, reference: Answers) -> tuple[float, float] | None:
    """The shares of an answer's words, and of its pairs of neighbouring words, that no other answer of the reference
    has, nor its prompt; None of few words."""
    if len(one.words) < SOME_WORDS:
        return None
    itself, known, asked = answers is reference, reference.counted, answers.asked[one.prompt]

    def share(parts: Sequence[str | tuple[str, str]]) -> float:
        return sum(known[part] <= itself and part not in asked for part in parts) / len(parts)

    return share(one.words), share(list(pairwise(one.words)))


def _usual_strangeness(reference: Answers | None) -> tuple[float, float] | None:
    """What shares of strange words and pairs an answer may have, learnt from the reference by leaving out each answer
    in turn: half as much again as 95% of them have, at least two fifths; and half of what 95% of them have not."""
    if reference is None:
        return None
    both = [_strangeness(one, reference, reference) for one in reference.looked]
    known = [one for one in both if one is not None]
    if len(known) < ENOUGH_ANSWERS:
        return None
    words, pairs = (sorted(shares)[int(0.95 * (len(known) - 1))] for shares in zip(*known, strict=True))
    return max(STRANGE_AT_LEAST, 1.5 * words), (1 + pairs) / 2


def _marks(
    one: Looked, answers: Answers, reference: Answers | None, usual: tuple[float, float] | None
) -> frozenset[str]:
    marks = set(one.marks)
    if reference is not None and usual is not None:
        shares = _strangeness(one, answers, reference)
        if shares is not None and (shares[0] > usual[0] or shares[1] > usual[1]):
            marks.add(STRANGE)
    if marks - {CUT_OFF}:
        marks.add(UNFIT)
    return frozenset(marks)


# --- shares ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Told:
    """A share, how many it is of, and of how many independent ones that would spread as much."""

    share: float
    n: int
    independent: float


def _told(sign: str, answers: Answers | None, marks: Sequence[frozenset[str]]) -> _Told | None:
    """What share of the answers or prompts has a sign; None where that is not known."""
    if (
        answers is None
        or (sign == CUT_OFF and not answers.tells_ends)
        or (sign == SAME_SAMPLES and not answers.several)
    ):
        return None
    if sign in (SAME_ELSEWHERE, SAME_SAMPLES):
        having = answers.same_elsewhere if sign == SAME_ELSEWHERE else answers.same_samples
        count = Counter(one.prompt for one in answers.looked)
        of = [prompt for prompt in count if sign == SAME_ELSEWHERE or count[prompt] > 1]
        return _Told(sum(prompt in having for prompt in of) / len(of), len(of), len(of))
    by_prompt: dict[int, list[bool]] = defaultdict(list)
    for one, its in zip(answers.looked, marks, strict=True):
        by_prompt[one.prompt].append(sign in its)
    n = len(answers.looked)
    share = sum(map(sum, by_prompt.values())) / n
    return _Told(share, n, _independent(list(by_prompt.values()), share, n))


def _independent(by_prompt: Sequence[Sequence[bool]], share: float, n: int) -> float:
    """How many independent answers would spread as much: at least as many as prompts, at most as answers."""
    clusters = len(by_prompt)
    if n == clusters or clusters < 2 or not 0 < share < 1:
        return n
    squares = sum((sum(one) - share * len(one)) ** 2 for one in by_prompt)
    variance = squares / n**2 * clusters / (clusters - 1)
    return min(n, max(clusters, share * (1 - share) / variance if variance > 0 else n))


def _share(now: _Told, then: _Told | None, limit: float, *, needs_reference: bool) -> Share:
    low, high = _interval(now)
    more = _least_excess(now, then)
    return Share(
        share=now.share,
        low=low,
        high=high,
        n=now.n,
        reference=None if then is None else then.share,
        flagged=more > limit and not (needs_reference and then is None),
    )


def _interval(told: _Told) -> tuple[float, float]:
    low, high = wilson(told.share, told.independent)
    return min(low, told.share), max(high, told.share)


def _least_excess(now: _Told, then: _Told | None) -> float:
    """Where the interval of the difference to the reference begins; without one, of that to nothing at all."""
    low, _ = _interval(now)
    if then is None:
        return low
    _, top = _interval(then)
    return now.share - then.share - math.hypot(now.share - low, top - then.share)


# --- drifts ----------------------------------------------------------------------------------------------------------


def _drifts(answers: Answers, reference: Answers | None) -> dict[str, Drift]:
    found = {"words": _length(answers, reference)}
    both = [_all_words(answers), *([_all_words(reference)] if reference else [])]
    least = min(map(len, both))
    if least >= ENOUGH_WORDS:
        for n in (1, 2):
            value, *others = (_distinct(words[:least], n) for words in both)
            ratio = value / others[0] if others else None
            outside = ratio is not None and not DISTINCT[0] <= ratio <= DISTINCT[1]
            reference_value = others[0] if others else None
            found[f"distinct-{n}"] = Drift(
                value=value, reference=reference_value, ratio=ratio, flagged=outside and n == 2
            )
    logprobs = [_mean_logprob(one) for one in (answers, reference) if one is not None]
    if logprobs[0] is not None:
        found["logprob"] = Drift(value=logprobs[0], reference=logprobs[1] if len(logprobs) > 1 else None)
    return found


def _length(answers: Answers, reference: Answers | None) -> Drift:
    """Mean length in words; the interval of the ratio by the delta method on its logarithm."""
    mean, error = _mean_and_error([len(one.words) for one in answers.looked])
    if reference is None:
        return Drift(value=mean)
    before, its_error = _mean_and_error([len(one.words) for one in reference.looked])
    if not mean or not before:
        return Drift(value=mean, reference=before, flagged=mean != before)
    ratio, reach = mean / before, math.exp(1.96 * math.hypot(error / mean, its_error / before))
    low, high = ratio / reach, ratio * reach
    cut = sum(CUT_OFF in one.marks for one in answers.looked) > len(answers.looked) / 2
    flagged = low > LENGTH or (high < 1 / LENGTH and not cut)
    return Drift(value=mean, reference=before, ratio=ratio, low=low, high=high, flagged=flagged)


def _mean_and_error(lengths: Sequence[int]) -> tuple[float, float]:
    spread = statistics.stdev(lengths) if len(lengths) > 1 else 0.0
    return statistics.fmean(lengths), spread / math.sqrt(len(lengths))


def _all_words(answers: Answers) -> list[str]:
    return [word for one in answers.looked for word in one.words]


def _distinct(words: Sequence[str], n: int) -> float:
    runs = words if n == 1 else list(pairwise(words))
    return len(set(runs)) / len(runs)


def _mean_logprob(answers: Answers) -> float | None:
    known = [one.logprob for one in answers.looked if one.logprob is not None]
    return statistics.fmean(known) if known else None


# --- words -----------------------------------------------------------------------------------------------------------


def _in_words(sign: str, share: Share) -> str:
    said = f"{share.share:.0%} {_SAYS[sign]} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return said if share.reference is None else f"{said}, {share.reference:.0%} in the reference"


def _drift_in_words(name: str, drift: Drift) -> str:
    before = f"{drift.reference:.3g}" if drift.reference is not None else "-"
    if name == "words":
        return f"answers of {drift.value:.0f} words on average, {before} in the reference"
    more = "more varied" if drift.ratio is not None and drift.ratio > 1 else "less varied"
    return f"{more} words: {name} is {drift.value:.2f}, {before} in the reference"
