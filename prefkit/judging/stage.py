"""Judges rate, compare or choose among a run's responses.

Reads   prompts, responses, and the judgements that are there
Writes  judgements.jsonl, a Rating, Comparison or Choice as each reply comes

A comparison is asked in both orders, a choice in an order drawn for each prompt and sample. A reply that cannot be read
gets one question to repair it; if that does not help it is kept, with no score, the reason and its words. Excluded
prompts are passed over, and responses without a text.
"""

from __future__ import annotations

import array
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from prefkit.by_prompt import ByPrompt
from prefkit.errors import RunError
from prefkit.judging.examples import Keys, NearestExamples
from prefkit.judging.expected import expected_ratings, preference_for_b
from prefkit.judging.parsing import read_choice, read_comparison, read_rating
from prefkit.judging.questions import Form
from prefkit.judging.settings import JudgeSettings
from prefkit.models.asking import Held
from prefkit.models.chat import Model, Reply, Request, Sampling, Task
from prefkit.records import (
    Choice,
    Comparison,
    Judgement,
    Message,
    Prompt,
    Rating,
    Response,
    Usage,
    digest,
)
from prefkit.rubric import Example, Principle
from prefkit.run import Run

TOP_LOGPROBS = 20


class JudgeQuestions:
    """All questions to a judge about a run.

    Raises:
        RunError: there is nothing to judge, or there are too few contrast examples.
    """

    stage = "judge"
    file = "judgements.jsonl"
    noun = "judgements"

    def __init__(self, run: Run, settings: JudgeSettings) -> None:
        self._run = run
        self._settings = settings
        self._chosen = {*settings.policies, settings.baseline} if settings.policies else set()
        self._rubric_hash = run.rubric.hash
        self._asked = [(name,) for name in run.rubric.principle_ids] if settings.per_principle else [()]
        self.nearest = self._nearest()
        self.without_text = 0
        self.unscrubbed = 0
        self._excluded = self._look_at_prompts()
        self._policies: set[str] = set()
        self._cases = ByPrompt(run, self._wanted, lambda prompt: prompt.excluded is None)
        self._check()
        self._forms: dict[int, list[Form]] = {}

    def _nearest(self) -> NearestExamples | None:
        wanted = self._settings
        if wanted.nearest_examples is None or wanted.embedder is None:
            return None
        return NearestExamples(self._run.rubric, self._asked, wanted.nearest_examples, wanted.embedder, wanted.examples)

    def _look_at_prompts(self) -> frozenset[str]:
        excluded = []
        for prompt in self._run.prompts():
            if prompt.excluded is not None:
                excluded.append(prompt.id)
            else:
                self.unscrubbed += not prompt.scrubbed
        return frozenset(excluded)

    def _wanted(self, response: Response) -> bool:
        self._policies.add(response.policy)
        if response.prompt_id in self._excluded or (self._chosen and response.policy not in self._chosen):
            return False
        if not response.text or response.text.isspace():
            self.without_text += 1
            return False
        self.unscrubbed += not response.scrubbed
        return True

    def _check(self) -> None:
        settings = self._settings
        for name in filter(None, (*settings.policies, settings.baseline)):
            if name not in self._policies:
                there = ", ".join(sorted(self._policies)) or "none"
                found = f"no responses of the policy {name}"
                raise RunError(self._run.path, found, f"one of {there}", "Name one of these.")
        if next(self.per_prompt, None) is None:
            needed = "a prompt with a response" if settings.mode == "rate" else "a prompt with two responses"
            remedy = "Import or generate responses; `prefkit status` says what is there."
            raise RunError(self._run.path, "nothing to judge", needed, remedy)

    def forms(self, shown: int) -> list[Form]:
        """The forms of the questions about a case of ``shown`` responses."""
        if shown not in self._forms:
            rubric, settings = self._run.rubric, self._settings
            self._forms[shown] = [
                Form(
                    rubric=rubric,
                    mode=settings.mode,
                    asked=asked,
                    reason=settings.reason,
                    overall_only=settings.overall_only,
                    with_examples=self.nearest is None,
                    count=shown if settings.mode == "choose" else 2,
                )
                for asked in self._asked
            ]
        return self._forms[shown]

    @property
    def per_prompt(self) -> Iterator[tuple[Prompt, int]]:
        """The prompts that are asked about, with how many responses they have."""
        needed = 1 if self._settings.mode == "rate" else 2
        found = ((prompt, len(places)) for prompt, places in self._cases.places() if len(places) >= needed)
        return itertools.islice(found, self._settings.prompts)

    def total(self, model: Model) -> int:
        """How many questions there are for a judge."""
        each = len(self._asked) * self._settings.samples
        if self._settings.mode == "compare" and self._settings.baseline is not None:
            return each * sum(1 for _, case in self._shown() for _ in case)
        return each * sum(self._shown_of(count) for _, count in self.per_prompt)

    def _shown_of(self, count: int) -> int:
        if self._settings.mode == "rate":
            return count
        if self._settings.mode == "choose":
            return 1
        pairs = count * (count - 1) // 2
        return 2 * min(pairs, self._settings.pairs_per_prompt or pairs)

    def _shown(self) -> Iterator[tuple[Prompt, list[tuple[int, ...]]]]:
        """For each prompt the places of the responses to show, in the order to show them."""
        settings = self._settings
        needed = 1 if settings.mode == "rate" else 2
        enough = ((prompt, places) for prompt, places in self._cases.places() if len(places) >= needed)
        for prompt, places in itertools.islice(enough, settings.prompts):
            if settings.mode == "rate":
                yield prompt, [(place,) for place in places]
            elif settings.mode == "choose":
                yield prompt, [tuple(places)]
            else:
                pairs = list(itertools.combinations(places, 2))
                if settings.baseline is not None:
                    pairs = [pair for pair in pairs if self._of_baseline(pair) == 1]
                if settings.pairs_per_prompt is not None and len(pairs) > settings.pairs_per_prompt:
                    drawn = random.Random(digest(prompt.id, settings.seed)).sample(pairs, settings.pairs_per_prompt)
                    pairs = [pair for pair in pairs if pair in drawn]
                yield prompt, [shown for a, b in pairs for shown in ((a, b), (b, a))]

    def _of_baseline(self, pair: tuple[int, int]) -> int:
        return sum(self._cases.policy(place) == self._settings.baseline for place in pair)

    def tasks(self, model: Model, held: Held) -> Iterator[Task | None]:
        """The questions to a judge, prompt by prompt; None for one that the run holds an answer to."""
        annotator, expected = f"llm:{model.name}", self._settings.expected
        samplings = self._samplings(model)
        for name, prompt, places, sample, number in self._named(model):
            if name in held:
                yield None
            else:
                responses = tuple(map(self._cases.response, places))
                asked = _Asked(name, annotator, self._rubric_hash, prompt, responses, sample)
                form = self.forms(len(places))[number]
                examples = self.nearest.of(prompt, number) if self.nearest else ()
                yield JudgeTask(asked, form, samplings[sample], examples=examples, expected=expected)

    def unanswered(self, models: Sequence[Model], held: Held) -> Keys:
        """The prompts with a question to one of the judges that the run holds no answer to."""
        keys = array.array("q")
        for model in models:
            for name, prompt, *_ in self._named(model):
                if name not in held and not (keys and keys[-1] == hash(prompt.id)):
                    keys.append(hash(prompt.id))
        return np.unique(np.frombuffer(keys, dtype=np.int64)) if keys else np.empty(0, np.int64)

    def _samplings(self, model: Model) -> list[Sampling]:
        return [self._settings.sampling(model.sampling, sample) for sample in range(self._settings.samples)]

    def _named(self, model: Model) -> Iterator[tuple[str, Prompt, tuple[int, ...], int, int]]:
        """Each question to a judge: the judgement's id, the prompt, the places of the responses in the order to show
        them, the number of the sample, the number of the form."""
        annotator, settings = f"llm:{model.name}", self._settings
        drawn = [digest(msgspec.to_builtins(sampling), settings.expected) for sampling in self._samplings(model)]
        heads: dict[int, list[bytes]] = {}
        for prompt, said, places in self._cases_shown():
            for sample in range(settings.samples):
                if settings.mode == "choose":
                    places = self._shuffled(places, prompt.id, annotator, sample)
                kind = len(places) * settings.samples + sample
                if kind not in heads:
                    heads[kind] = self._heads(annotator, len(places), sample, drawn[sample])
                case = said + b"".join(map(self._cases.fingerprint, places))
                for number, head in enumerate(heads[kind]):
                    name = hashlib.blake2b(head + case, digest_size=10).hexdigest()
                    yield name, prompt, places, sample, number

    def _cases_shown(self) -> Iterator[tuple[Prompt, bytes, tuple[int, ...]]]:
        """Each case: the prompt, a digest of its words, and the places of the responses to show."""
        for prompt, shown in self._shown():
            said = digest([(message.role, message.content) for message in prompt.messages]).encode()
            for places in shown:
                yield prompt, said, places

    def _heads(self, annotator: str, shown: int, sample: int, drawn: str) -> list[bytes]:
        """For each form the part of a judgement's id that is the same for all cases; the rest are digests of the
        prompt's words and of the responses. A run that goes on makes a million ids before it asks anything."""
        heads = [("judgement", annotator, sample, form.digest, drawn) for form in self.forms(shown)]
        if self.nearest is None:
            return list(map(msgspec.json.encode, heads))
        return [msgspec.json.encode((*head, of)) for head, of in zip(heads, self.nearest.digests, strict=True)]

    def _shuffled(self, places: tuple[int, ...], *drawn_by: object) -> tuple[int, ...]:
        order = sorted(places, key=self._cases.fingerprint)
        random.Random(digest("order", *drawn_by)).shuffle(order)
        return tuple(order)

    def facts(self) -> dict[str, Any]:
        """The settings, for ``run.json``."""
        forms = {str(shown): [form.digest for form in forms] for shown, forms in sorted(self._forms.items())}
        settings = asdict(self._settings)
        if self._settings.examples is not None:
            settings["examples"] = self._settings.examples.name
        pools = {"nearest_examples": self.nearest.digests} if self.nearest else {}
        return {"settings": settings, "rubric": self._rubric_hash, "forms": forms, **pools}

    @property
    def title(self) -> str:
        """The name of this round in ``run.json``, to which the model's is added."""
        return f"judge {self._settings.mode}"


class _Asked(msgspec.Struct, frozen=True):
    """What all three kinds of judgement say about their question."""

    id: str
    annotator: str
    rubric: str
    prompt: Prompt
    responses: tuple[Response, ...]
    sample: int

    def common(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "annotator": self.annotator,
            "prompt_id": self.prompt.id,
            "rubric": self.rubric,
            "sample": self.sample,
        }


class JudgeTask:
    """One question to a judge: asked, repaired once if need be, read."""

    __slots__ = ("_asked", "_examples", "_expected", "_form", "_messages", "_repaired", "_sampling", "id")

    def __init__(
        self, asked: _Asked, form: Form, sampling: Sampling, *, examples: tuple[Example, ...] = (), expected: bool
    ) -> None:
        self.id = asked.id
        self._asked = asked
        self._examples = examples
        self._form = form
        self._sampling = sampling
        self._expected = expected
        self._messages: tuple[Message, ...] = ()
        self._repaired = False

    @property
    def topic(self) -> str:
        """What the question is about, by ids."""
        shown = ", ".join(response.id for response in self._asked.responses)
        return f"{self._form.mode} {shown} by {self._asked.annotator}"

    def request(self) -> Request:
        """The question."""
        texts = [response.text or "" for response in self._asked.responses]
        self._messages = self._form.messages(self._asked.prompt.messages, texts, examples=self._examples)
        return self._as_request()

    def _as_request(self) -> Request:
        top = TOP_LOGPROBS if self._expected else 0
        return Request(self._messages, self._sampling, self._form.schema, top)

    def receive(self, reply: Reply, usage: Usage | None) -> bytes | Request:
        """The judgement, or the question to repair a reply that cannot be read."""
        judgement = read_judgement(self._asked, self._form, reply, usage, expected=self._expected)
        if judgement.failure is not None and not self._repaired:
            self._repaired = True
            self._messages = (*self._messages, *self._form.repair(reply.text, judgement.failure))
            return self._as_request()
        return msgspec.json.encode(judgement) + b"\n"


def read_judgement(asked: _Asked, form: Form, reply: Reply, usage: Usage | None, *, expected: bool) -> Judgement:
    """The judgement in a reply; without a score, and with a reason, where it cannot be read."""
    common = {**asked.common(), "reply": reply.text, "expected": expected, "usage": usage}
    if form.mode == "rate":
        rating = read_rating(reply.text, form.principles)
        scores, failure = rating.scores, rating.failure
        if expected and failure is None:
            scores, failure = _expected_scores(reply, form.principles)
        return Rating(**common, failure=failure, response_id=asked.responses[0].id, scores=scores)
    if form.mode == "choose":
        choice = read_choice(reply.text, len(asked.responses))
        shown = tuple(response.id for response in asked.responses)
        return Choice(**common, failure=choice.failure, responses=shown, best=choice.best)
    principles = () if form.overall_only else form.principles
    verdict = read_comparison(reply.text, principles)
    failure, preference = verdict.failure, None
    if expected and failure is None:
        preference = preference_for_b(reply.tokens or (), principles)
        failure = None if preference is not None else NO_LOGPROBS
    a, b = (response.id for response in asked.responses)
    return Comparison(
        **common,
        failure=failure,
        a=a,
        b=b,
        winner=verdict.winner,
        principles=verdict.principles,
        preference=preference,
    )


NO_LOGPROBS = "no logprobs of the score"


def _expected_scores(reply: Reply, principles: Sequence[Principle]) -> tuple[dict[str, Any], str | None]:
    scores = expected_ratings(reply.tokens or (), principles)
    missing = [name for name, score in scores.items() if score is None]
    return scores, f"{NO_LOGPROBS}: {', '.join(missing)}" if missing else None
