"""Judges rate, compare or choose among a run's responses.

Reads   prompts, responses, and the judgements that are there
Writes  judgements.jsonl, a Rating, Comparison or Choice as each reply comes

A comparison is asked in both orders, a choice in an order drawn for each prompt and sample. A reply that cannot be read
gets one question to repair it; if that does not help it is kept, with no score, the reason and its words. Excluded
prompts are passed over, and responses without a text.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
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
from prefkit.models.chat import Model, Reply, Request, Sampling, Task
from prefkit.models.held import Held
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
AT_A_TIME = 4096
"""Questions that are looked for among the answers together."""


class JudgeQuestions:
    """All questions to a judge about a run.

    Args:
        run: the run.
        settings: what is asked.
        part: the run is a part of a larger one, and may hold nothing that is asked about.

    Raises:
        RunError: there is nothing to judge, or there are too few contrast examples.
    """

    stage = "judge"
    file = "judgements.jsonl"
    noun = "judgements"

    def __init__(self, run: Run, settings: JudgeSettings, *, part: bool = False) -> None:
        self._run = run
        self._settings = settings
        self._chosen = {*settings.policies, settings.baseline} if settings.policies else set()
        self._rubric_hash = run.rubric.hash
        self._asked = [(name,) for name in run.rubric.principle_ids] if settings.per_principle else [()]
        self.nearest = self._nearest()
        self.without_text = 0
        self.unscrubbed = 0
        self._excluded: set[str] = set()
        self.policies: set[str] = set()
        """Whose responses there are."""
        self._cases = ByPrompt(run, self._wanted, self._prompt_wanted)
        enough = np.flatnonzero(self._cases.counts >= (1 if settings.mode == "rate" else 2))
        self.asked_about: list[int] = enough[: settings.prompts].tolist()
        """The numbers of the prompts that are asked about, among those that are not excluded."""
        if not part:
            check_judged(run, settings, self.policies, len(self.asked_about))
        self._forms: dict[int, list[Form]] = {}

    def _nearest(self) -> NearestExamples | None:
        wanted = self._settings
        if wanted.nearest_examples is None or wanted.embedder is None:
            return None
        return NearestExamples(self._run.rubric, self._asked, wanted.nearest_examples, wanted.embedder, wanted.examples)

    def _prompt_wanted(self, prompt: Prompt) -> bool:
        if prompt.excluded is not None:
            self._excluded.add(prompt.id)
            return False
        self.unscrubbed += not prompt.scrubbed
        return True

    def _wanted(self, response: Response) -> bool:
        self.policies.add(response.policy)
        if response.prompt_id in self._excluded or (self._chosen and response.policy not in self._chosen):
            return False
        if not response.text or response.text.isspace():
            self.without_text += 1
            return False
        self.unscrubbed += not response.scrubbed
        return True

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

    def total(self, model: Model) -> int:
        """How many questions there are for a judge."""
        each = len(self._asked) * self._settings.samples
        if self._settings.mode == "compare" and self._settings.baseline is not None:
            return each * sum(len(self._shown(number)) for number in self.asked_about)
        counts, times = np.unique(self._cases.counts[self.asked_about], return_counts=True)
        return each * sum(self._shown_of(int(count)) * int(many) for count, many in zip(counts, times, strict=True))

    def _shown_of(self, count: int) -> int:
        if self._settings.mode == "rate":
            return count
        if self._settings.mode == "choose":
            return 1
        pairs = count * (count - 1) // 2
        return 2 * min(pairs, self._settings.pairs_per_prompt or pairs)

    def _shown(self, number: int) -> list[tuple[int, ...]]:
        """The places of the responses to show for a prompt, in the order to show them, for each case."""
        settings, places = self._settings, self._cases.places(number)
        if settings.mode == "rate":
            return [(place,) for place in places]
        if settings.mode == "choose":
            return [tuple(places)]
        pairs = list(itertools.combinations(places, 2))
        if settings.baseline is not None:
            pairs = [pair for pair in pairs if self._of_baseline(pair) == 1]
        if settings.pairs_per_prompt is not None and len(pairs) > settings.pairs_per_prompt:
            rng = random.Random(digest(self._cases.words(number).hex(), settings.seed))
            pairs = sorted(rng.sample(pairs, settings.pairs_per_prompt))
        return [shown for a, b in pairs for shown in ((a, b), (b, a))]

    def _of_baseline(self, pair: tuple[int, int]) -> int:
        return sum(self._cases.policy(place) == self._settings.baseline for place in pair)

    def tasks(self, model: Model, held: Held) -> Iterator[Task | None]:
        """The questions to a judge, prompt by prompt; None for one that the run holds an answer to."""
        annotator, expected = f"llm:{model.name}", self._settings.expected
        samplings, prompt, read = self._samplings(model), None, -1
        for some in self._named(model):
            for there, (name, number, places, sample, question) in zip(held.among(some), some, strict=True):
                if there:
                    yield None
                    continue
                if prompt is None or read != number:
                    prompt, read = self._cases.prompt(number), number
                responses = tuple(map(self._cases.response, places))
                asked = _Asked(name, annotator, self._rubric_hash, prompt, responses, sample)
                examples = self.nearest.of(prompt, question) if self.nearest else ()
                form = self.forms(len(places))[question]
                yield JudgeTask(asked, form, samplings[sample], examples=examples, expected=expected)

    def unanswered(self, models: Sequence[Model], held: Held) -> Keys:
        """The prompts with a question to one of the judges that the run holds no answer to."""
        wanted = np.zeros(len(self._cases), dtype=bool)
        for model in models:
            for some in self._named(model):
                wanted[[one[1] for one, there in zip(some, held.among(some), strict=True) if not there]] = True
        return np.unique(self._cases.keys[wanted])

    def _samplings(self, model: Model) -> list[Sampling]:
        return [self._settings.sampling(model.sampling, sample) for sample in range(self._settings.samples)]

    def _named(self, model: Model) -> Iterator[list[_Named]]:
        """The questions to a judge, some thousands at a time."""
        annotator, settings = f"llm:{model.name}", self._settings
        drawn = [digest(msgspec.to_builtins(sampling), settings.expected) for sampling in self._samplings(model)]
        heads: dict[tuple[int, int], list[bytes]] = {}
        fingerprints, some = self._cases.fingerprints, list[_Named]()
        for number in self.asked_about:
            words = self._cases.words(number)
            for shown, sample in itertools.product(self._shown(number), range(settings.samples)):
                kind = len(shown), sample
                if kind not in heads:
                    heads[kind] = self._heads(annotator, len(shown), sample, drawn[sample])
                if settings.mode == "choose":
                    shown = self._shuffled(shown, words.hex(), annotator, sample)
                case = words + fingerprints(shown)
                for question, head in enumerate(heads[kind]):
                    name = hashlib.blake2b(head + case, digest_size=10).hexdigest()
                    some.append((name, number, shown, sample, question))
            if len(some) >= AT_A_TIME:
                yield some
                some = []
        yield some

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


def check_judged(run: Run, settings: JudgeSettings, policies: Iterable[str], asked_about: int) -> None:
    """Find fault with a run that holds nothing to judge.

    Args:
        run, settings: what is judged, and how.
        policies: whose responses the run holds.
        asked_about: how many prompts there would be questions about.

    Raises:
        RunError: a policy that is named has no responses, or there is no prompt with enough of them.
    """
    for name in filter(None, (*settings.policies, settings.baseline)):
        if name not in policies:
            there = ", ".join(sorted(policies)) or "none"
            found = f"no responses of the policy {name}"
            raise RunError(run.path, found, f"one of {there}", "Name one of these.")
    if not asked_about:
        needed = "a prompt with a response" if settings.mode == "rate" else "a prompt with two responses"
        remedy = "Import or generate responses; `prefkit status` says what is there."
        raise RunError(run.path, "nothing to judge", needed, remedy)


_Named = tuple[str, int, tuple[int, ...], int, int]
"""A question: the judgement's id, the number of the prompt, the places of the responses in the order to show them, the
number of the sample, the number of the form."""


class _Asked(msgspec.Struct, frozen=True, gc=False):
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
