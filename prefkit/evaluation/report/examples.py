"""Answers side by side: a random few of the prompts that were judged, each with two policies' answers.

Reads   prompts, responses, judgements of the prompts that are drawn
Gives   Examples

Half of them are of the two policies of the headline, the others of any two; each topic gets its turn, and within a
topic the draw is random with a fixed seed. In a run where prompts were scrubbed, a text that was not is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prefkit.evaluation.outcomes import UNKNOWN, Outcomes
from prefkit.evaluation.report.markup import embedded
from prefkit.records import UNANSWERED, Choice, Comparison, Judgement, Prompt, Rating, Response, is_attention
from prefkit.run import Run

MOST = 500
"""Examples that a page holds at most."""
CHARACTERS = 12_000
"""Of a text; what is longer is cut, and says so."""
BYTES = 1_600_000
"""Of all examples together, as they stand on the page; those that would go beyond are left out, and counted."""
DECIDED = 1e-9


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What somebody said."""

    role: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one annotator said of the two: ``first``, ``second`` or ``tie``, by comparing or by rating.

    ``scores`` are by principle, of the first and the second answer, where the annotator rated both; ``share`` the
    probability of the first, where it was given; ``shown`` which stood first.
    """

    by: str
    how: str
    said: str
    share: float | None = None
    shown: str | None = None
    reason: str | None = None
    scores: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Example:
    """Two answers to a prompt.

    ``won`` is what most annotators say, ``split`` whether some say the opposite; ``gaps`` the mean difference of the
    ratings by principle, first less second.
    """

    topic: str | None
    marks: list[str]
    turns: list[Turn]
    policies: tuple[str, str]
    texts: tuple[str, str]
    verdicts: list[Verdict]
    won: str
    split: bool
    gaps: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples, and why there are not more.

    Args:
        shown: them.
        asked: how many were asked for.
        possible: how many there could have been: two policies on a prompt.
        unscrubbed: whether texts are shown that were not scrubbed.
        left_out: by reason.
    """

    shown: list[Example]
    asked: int
    possible: int
    unscrubbed: bool
    left_out: dict[str, int]


Key = tuple[str, str, str]
"""A prompt and two policies."""


def examples_of(
    run: Run,
    outcomes: Outcomes | None,
    *,
    count: int,
    focus: tuple[str, str] | None,
    scrubbed_only: bool,
    seed: int = 0,
) -> Examples:
    """Draw examples.

    Args:
        run: the run.
        outcomes: who was preferred to whom; None where nobody was.
        count: how many, at most ``MOST``.
        focus: the two policies of the headline.
        scrubbed_only: leave out what was not scrubbed.
        seed: of the draw.

    Raises:
        RecordError: a line is not a record.
    """
    if outcomes is None or not count:
        return Examples(shown=[], asked=count, possible=0, unscrubbed=False, left_out={})
    keys = _keys(outcomes)
    order = _drawn(keys, outcomes, focus, seed)
    # A prompt may turn out not to have been scrubbed, or to have no text: some more are looked at than are shown.
    tried = order[: 3 * min(count, MOST) + 60]
    found = _Found(run, tried)
    left_out: dict[str, int] = defaultdict(int)
    shown: list[Example] = []
    size, raw = 0, False
    for key in tried:
        if len(shown) >= min(count, MOST):
            break
        prompt, answers = found.prompts.get(key[0]), found.answers(key, focus)
        if prompt is None or answers is None:
            left_out["whose texts are not known"] += 1
            continue
        unscrubbed = not prompt.scrubbed or not all(one.scrubbed for one in answers)
        if scrubbed_only and unscrubbed:
            left_out["that were not scrubbed"] += 1
            continue
        one = _example(prompt, answers, found.judgements, run)
        bytes_of = len(embedded(one).encode())
        if size + bytes_of > BYTES:
            left_out["as the page would become too large"] += 1
            continue
        size, raw = size + bytes_of, raw or unscrubbed
        shown.append(one)
    return Examples(shown=shown, asked=count, possible=len(keys), unscrubbed=raw, left_out=dict(left_out))


def _keys(outcomes: Outcomes) -> list[tuple[int, int, int]]:
    """Codes of prompt and two policies."""
    rows = np.stack([outcomes.prompt, outcomes.first, outcomes.second], axis=1)
    return [(int(a), int(b), int(c)) for a, b, c in np.unique(rows, axis=0)]


def _drawn(
    keys: Sequence[tuple[int, int, int]], outcomes: Outcomes, focus: tuple[str, str] | None, seed: int
) -> list[Key]:
    """All of them in the order in which they are taken."""
    rng = np.random.default_rng(seed)
    topic = dict(zip(outcomes.prompt.tolist(), outcomes.topic.tolist(), strict=True))
    named = [(outcomes.prompts[a], outcomes.policies[b], outcomes.policies[c], topic[a]) for a, b, c in keys]
    mixed = [named[place] for place in rng.permutation(len(named))]
    inside = [one for one in mixed if focus and set(one[1:3]) == set(focus)]
    outside = [one for one in mixed if not (focus and set(one[1:3]) == set(focus))]
    return _by_turns([_topics_by_turns(inside), _topics_by_turns(outside)])


def _topics_by_turns(found: Iterable[tuple[str, str, str, int]]) -> list[Key]:
    by_topic: defaultdict[int, list[Key]] = defaultdict(list)
    for prompt, one, other, topic in found:
        by_topic[topic].append((prompt, one, other))
    return _by_turns([by_topic[topic] for topic in sorted(by_topic, key=lambda code: (code == UNKNOWN, code))])


def _by_turns(lists: Sequence[Sequence[Key]]) -> list[Key]:
    """One of each list, then the next of each."""
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]


class _Found:
    """The records of the prompts that may be shown."""

    def __init__(self, run: Run, keys: Sequence[Key]) -> None:
        wanted = {key[0] for key in keys}
        self.prompts: dict[str, Prompt] = {one.id: one for one in run.prompts() if one.id in wanted}
        self._responses: dict[tuple[str, str], Response] = {}
        for one in run.responses():
            if one.prompt_id in wanted and one.text is not None:
                self._responses.setdefault((one.prompt_id, one.policy), one)
        ids = {one.id for one in self._responses.values()}
        self.judgements: defaultdict[str, list[Judgement]] = defaultdict(list)
        for judgement in run.judgements():
            if judgement.prompt_id in wanted and _counts(judgement, run, ids):
                self.judgements[judgement.prompt_id].append(judgement)

    def answers(self, key: Key, focus: tuple[str, str] | None) -> tuple[Response, Response] | None:
        """The first answer of each of the two; those of the headline in its order."""
        names = focus if focus and set(key[1:]) == set(focus) else key[1:]
        one, other = (self._responses.get((key[0], name)) for name in names)
        return (one, other) if one is not None and other is not None else None


def _counts(judgement: Judgement, run: Run, ids: set[str]) -> bool:
    if judgement.failure is not None and judgement.failure in UNANSWERED:
        return False
    if is_attention(judgement) or not run.comparable(judgement.rubric):
        return False
    return bool(ids.intersection(_responses(judgement)))


def _responses(judgement: Judgement) -> tuple[str, ...]:
    if isinstance(judgement, Rating):
        return (judgement.response_id,)
    return (judgement.a, judgement.b) if isinstance(judgement, Comparison) else judgement.responses


def _example(
    prompt: Prompt, answers: tuple[Response, Response], judgements: Mapping[str, Sequence[Judgement]], run: Run
) -> Example:
    ids = answers[0].id, answers[1].id
    verdicts = [*_compared(judgements.get(prompt.id, ()), ids), *_rated(judgements.get(prompt.id, ()), ids, run)]
    votes = [{"first": 1.0, "second": 0.0, "tie": 0.5}[one.said] for one in verdicts]
    mean = float(np.mean(votes)) if votes else 0.5
    return Example(
        topic=prompt.topic,
        marks=[mark for mark in prompt.marks if not mark.startswith("language:")],
        turns=[Turn(role=one.role, text=_cut(one.content)) for one in prompt.messages],
        policies=(answers[0].policy, answers[1].policy),
        texts=(_cut(answers[0].text or ""), _cut(answers[1].text or "")),
        verdicts=verdicts,
        won="first" if mean > 0.5 + DECIDED else "second" if mean < 0.5 - DECIDED else "tie",
        split=1.0 in votes and 0.0 in votes,
        gaps=_gaps(verdicts),
    )


def _cut(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}… [cut here: {len(text) - CHARACTERS:,} more characters]"


def _compared(judgements: Iterable[Judgement], ids: tuple[str, str]) -> list[Verdict]:
    found = []
    for one in judgements:
        if isinstance(one, Comparison) and {one.a, one.b} == set(ids) and one.winner is not None:
            first = one.a == ids[0]
            said = "tie" if one.winner == "tie" else "first" if (one.winner == "a") == first else "second"
            share = None if one.preference is None else one.preference if not first else 1 - one.preference
            found.append(
                Verdict(
                    by=one.annotator,
                    how="compared",
                    said=said,
                    share=share,
                    shown="first" if first else "second",
                    reason=one.reason,
                )
            )
        elif isinstance(one, Choice) and one.best is not None and set(ids) <= set(one.responses):
            best = one.responses[one.best]
            if best in ids:
                said = "first" if best == ids[0] else "second"
                found.append(Verdict(by=one.annotator, how=f"best of {len(one.responses)}", said=said))
    return found


def _rated(judgements: Iterable[Judgement], ids: tuple[str, str], run: Run) -> list[Verdict]:
    """Who is rated higher by each annotator that rated both."""
    scores: defaultdict[str, dict[str, Rating]] = defaultdict(dict)
    for one in judgements:
        if isinstance(one, Rating) and one.response_id in ids and one.failure is None:
            scores[one.annotator].setdefault(one.response_id, one)
    found = []
    for annotator, by_response in scores.items():
        if len(by_response) < 2:
            continue
        both = by_response[ids[0]], by_response[ids[1]]
        by_principle = {
            name: (both[0].scores.get(name), both[1].scores.get(name))
            for name in run.rubric.principle_ids
            if both[0].scores.get(name) is not None or both[1].scores.get(name) is not None
        }
        gap = _overall_gap(both, run)
        if gap is not None:
            said = "tie" if abs(gap) < DECIDED else "first" if gap > 0 else "second"
            reason = both[0].reason or both[1].reason
            found.append(Verdict(by=annotator, how="rated", said=said, scores=by_principle, reason=reason))
    return found


def _overall_gap(both: tuple[Rating, Rating], run: Run) -> float | None:
    overall = []
    for rating in both:
        given = {name: score for name in run.rubric.principle_ids if (score := rating.scores.get(name)) is not None}
        if len(given) != len(run.rubric.principles):
            return None
        overall.append(run.rubric.overall(given))
    return overall[0] - overall[1]


def _gaps(verdicts: Iterable[Verdict]) -> dict[str, float]:
    by_principle: defaultdict[str, list[float]] = defaultdict(list)
    for one in verdicts:
        for name, (first, second) in one.scores.items():
            if first is not None and second is not None:
                by_principle[name].append(float(first) - float(second))
    return {name: float(np.mean(found)) for name, found in by_principle.items()}
