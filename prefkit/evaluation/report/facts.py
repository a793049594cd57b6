"""What a run holds, counted once: prompts, responses, judgements, and what each is like.

Reads   prompts, responses, judgements; run.json
Gives   Facts
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from prefkit.durable import read_lines
from prefkit.records import UNANSWERED, Choice, Comparison, Judgement, Rating, is_attention, is_model
from prefkit.run import Run

KINDS: dict[type, str] = {Rating: "ratings", Comparison: "comparisons", Choice: "choices"}


@dataclass(frozen=True, kw_only=True)
class Principle:
    """A principle as annotators see it."""

    id: str
    title: str
    statement: str
    scale: str


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long a policy's answers are, in characters; ``n`` have a text."""

    n: int
    mean: float
    tenth: float
    median: float
    ninetieth: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a run holds.

    Args:
        rubric, rubric_hash, principles: what better means in it.
        prompts, excluded, scrubbed, in_dialogue: prompts; those that a screen excluded, by reason; those with
            identifying text replaced; those with more than one turn.
        marks, topics: of the prompts that are not excluded.
        responses, without_text, unscrubbed_responses, several: responses; those whose text is not known, or was not
            scrubbed; policies that answered a prompt more than once.
        lengths: of each policy's answers; of one whose texts are not known None.
        judgements: by kind; ``annotators`` how many of each, ``unreadable`` those that say nothing.
        other_rubric: judgements under another rubric than the one in use.
        shown_together: judgements for which an annotator had two responses or more before them.
        repeats: whether anybody was asked the same question again.
        human_reasons: judgements of people that come with a reason in their words.
        rewards: reward models whose rewards are in ``rewards.jsonl``, with the number of rewards.
    """

    rubric: str
    rubric_hash: str
    principles: list[Principle]
    prompts: int
    excluded: dict[str, int]
    scrubbed: int
    in_dialogue: int
    marks: dict[str, int]
    topics: dict[str, int]
    responses: int
    without_text: int
    unscrubbed_responses: int
    several: int
    policies: dict[str, int]
    lengths: dict[str, Lengths | None]
    judgements: dict[str, int]
    annotators: dict[str, int]
    unreadable: int
    unanswered: int
    other_rubric: int
    shown_together: int
    repeats: bool
    attention: int
    human_reasons: int
    rewards: dict[str, int] = field(default_factory=dict)

    @property
    def people(self) -> list[str]:
        """Annotators who are people."""
        return [name for name in self.annotators if not is_model(name)]

    @property
    def models(self) -> list[str]:
        """Annotators that are models."""
        return [name for name in self.annotators if is_model(name)]

    @property
    def kept(self) -> int:
        """Prompts that no screen excluded."""
        return self.prompts - sum(self.excluded.values())


def facts_of(run: Run, progress: Callable[[int], None] | None = None) -> Facts:
    """Count what a run holds.

    Raises:
        RecordError: a line is not a record.
    """
    prompts = _Prompts(run)
    responses = _Responses(run)
    judgements = _Judgements(run, progress)
    return Facts(
        rubric=f"{run.rubric.title} ({run.rubric.id}, version {run.rubric.version})",
        rubric_hash=run.rubric.hash,
        principles=[
            Principle(id=one.id, title=one.title, statement=one.statement, scale=str(one.scale))
            for one in run.rubric.principles
        ],
        prompts=prompts.count,
        excluded=dict(prompts.excluded.most_common()),
        scrubbed=prompts.scrubbed,
        in_dialogue=prompts.in_dialogue,
        marks=dict(prompts.marks.most_common()),
        topics=dict(prompts.topics.most_common()),
        responses=responses.policies.total(),
        without_text=responses.without_text,
        unscrubbed_responses=responses.unscrubbed,
        several=len(responses.several),
        policies=dict(sorted(responses.policies.items())),
        lengths={name: _lengths(responses.lengths.get(name, [])) for name in sorted(responses.policies)},
        judgements=dict(judgements.kinds),
        annotators=dict(sorted(judgements.annotators.items())),
        unreadable=judgements.unreadable,
        unanswered=judgements.unanswered,
        other_rubric=judgements.other_rubric,
        shown_together=judgements.shown_together,
        repeats=judgements.repeats,
        attention=judgements.attention,
        human_reasons=judgements.human_reasons,
        rewards=_rewards(run),
    )


def _lengths(found: list[int]) -> Lengths | None:
    if not found:
        return None
    tenth, median, ninetieth = (float(one) for one in np.percentile(found, (10, 50, 90)))
    return Lengths(n=len(found), mean=float(np.mean(found)), tenth=tenth, median=median, ninetieth=ninetieth)


class _Prompts:
    def __init__(self, run: Run) -> None:
        self.count = self.scrubbed = self.in_dialogue = 0
        self.excluded: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.topics: Counter[str] = Counter()
        for prompt in run.prompts():
            self.count += 1
            self.scrubbed += prompt.scrubbed
            self.in_dialogue += len(prompt.messages) > 1
            if prompt.excluded:
                self.excluded[prompt.excluded] += 1
                continue
            self.marks.update(prompt.marks)
            if prompt.topic is not None:
                self.topics[prompt.topic] += 1


class _Responses:
    def __init__(self, run: Run) -> None:
        self.policies: Counter[str] = Counter()
        self.lengths: defaultdict[str, list[int]] = defaultdict(list)
        self.without_text = self.unscrubbed = 0
        self.several: set[str] = set()
        for response in run.responses():
            self.policies[response.policy] += 1
            self.without_text += response.text is None
            self.unscrubbed += response.text is not None and not response.scrubbed
            if response.text is not None:
                self.lengths[response.policy].append(len(response.text))
            if response.sample:
                self.several.add(response.policy)


class _Judgements:
    def __init__(self, run: Run, progress: Callable[[int], None] | None) -> None:
        self.kinds: Counter[str] = Counter()
        self.annotators: Counter[str] = Counter()
        self.unreadable = self.unanswered = self.other_rubric = self.shown_together = 0
        self.attention = self.human_reasons = 0
        self.repeats = False
        for one in run.judgements(progress):
            self.kinds[KINDS[type(one)]] += 1
            self.annotators[one.annotator] += 1
            self.attention += is_attention(one)
            self.unanswered += one.failure in UNANSWERED
            self.unreadable += one.failure is not None and one.failure not in UNANSWERED
            self.other_rubric += one.rubric != run.info.rubric
            self.shown_together += not isinstance(one, Rating)
            self.repeats = self.repeats or one.sample > 0
            self.human_reasons += bool(one.reason) and not is_model(one.annotator)


def _rewards(run: Run) -> dict[str, int]:
    """How many rewards of which model; a line that is none is found when the rewards are used."""
    import msgspec

    class _Line(msgspec.Struct):
        model: str = ""

    path = run.path / "rewards.jsonl"
    if not path.exists():
        return {}
    decode = msgspec.json.Decoder(_Line).decode
    found: Counter[str] = Counter()
    for _, line in read_lines(path):
        try:
            found[decode(line).model] += 1
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    return dict(sorted(found.items()))


def judgement_bytes(run: Run) -> int | None:
    """The size of the judgements' file."""
    path = run.file(Judgement)
    return path.stat().st_size if path else None
