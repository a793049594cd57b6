"""What policies know: accuracy on multiple-choice questions, by category, against chance and beside each other.

Reads    questions (``prefkit.policies.suites``), policies
Gives    for each policy and question the option that it takes; accuracies with intervals, and paired differences

Three ways to ask:

    likelihood    the question alone; each option as an answer to it, the likeliest is taken. By the sum of the
                  log-probabilities of its tokens, or a token's or character's mean
    letter        the options under letters; the likeliest letter is taken
    answer        the options under letters; the policy writes, and the letter is looked for in what it wrote

A policy with a chat template is asked through it; one without, such as a base model, as ``Question: ... Answer:``.
Answers need a template. A question is read once for all its options. An answer without a letter is wrong, and counted.

The intervals are from a bootstrap over questions; the difference of two policies is over the same questions. Chance is
the mean of 1 / options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.policies.suites import LETTERS, Question, Suite
from prefkit.resampling import Figure, Sums, estimates, ratio

By = Literal["likelihood", "letter", "answer"]
Normalised = Literal["none", "tokens", "characters"]
ASK = "Answer with the letter of the right option, and nothing else."
ANSWER_TOKENS = 64
"""Of an answer in which the letter is looked for."""
ROW_TOKENS = 2_048
"""Tokens that are read at once; a question with its options may have more."""
_SAID = re.compile(
    r"(?i:answer|option|choice|correct|right)[^\n]{0,30}?(?:is|:)[ \t]*[*(\[\"']*([A-Z])(?![A-Za-z'’])"
    r"|^[ \t]*[*(\[\"']*([A-Z])(?:[)\].:*\"']|[ \t]*$)",
    re.MULTILINE,
)
_ALONE = re.compile(r"(?<![A-Za-z'’])[(\[]([A-Z])[)\]]")


@dataclass(frozen=True)
class Taken:
    """What a policy took for each question.

    Args:
        name: of the policy.
        options: which option, from 0; -1 where an answer names none.
        scores: of each question, what each option got; empty where the policy wrote.
        replies: what it wrote; empty where it did not.
    """

    name: str
    options: npt.NDArray[np.int64]
    scores: Sequence[Sequence[float]] = ()
    replies: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """Accuracies of policies.

    Args:
        chance: by category, "" for all.
        accuracy: by policy, then category.
        difference: by policy, then category: to the first policy, over the same questions.
        unread: by policy, answers that name no option.
    """

    chance: Mapping[str, float]
    accuracy: Mapping[str, Mapping[str, Figure]]
    difference: Mapping[str, Mapping[str, Figure]]
    unread: Mapping[str, int] = field(default_factory=dict)


def take(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    name: str,
    *,
    by: By = "likelihood",
    normalised: Normalised = "none",
    template: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] = lambda more: None,
) -> Taken:
    """Ask a policy all questions.

    Raises:
        PrefkitError: it has no chat template and is to answer, or a question is longer than it can read.
    """
    if by == "answer":
        return _answered(model, tokenizer, questions, name, dict(template or {}), progress)
    said = [_stem(one, by) for one in questions]
    prompts = _prompts(tokenizer, said, dict(template or {}))
    spoken = [_continuations(tokenizer, one, by) for one in questions]
    _need_room(model, prompts, spoken, questions, name)
    sums = option_log_probs(model, prompts, spoken, progress)
    scores = []
    for one, parts, found in zip(questions, spoken, sums, strict=True):
        sizes = {"none": [1] * len(parts), "tokens": list(map(len, parts)), "characters": list(map(len, one.options))}
        scores.append([value / size for value, size in zip(found, sizes[normalised], strict=True)])
    return Taken(name, np.array([int(np.argmax(one)) for one in scores], np.int64), scores=scores)


def option_log_probs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    progress: Callable[[int], None] = lambda more: None,
) -> list[list[float]]:
    """The log-probability of each continuation of each prompt, in nats; a prompt is read once for all of its own.

    Args:
        model: a causal language model.
        prompts: in tokens.
        continuations: of each prompt, in tokens.
        progress: told of prompts that are done.
    """
    from prefkit.policies.logprobs import NO_HEAD, enable_packing, log_probs
    from prefkit.policies.sampling import answering
    from prefkit.training.groups import Group, TokenGroup
    from prefkit.training.packing import group_tokens, pack, plan_rows

    def group(place: int) -> TokenGroup:
        names = tuple(map(str, range(len(continuations[place]))))
        made = Group(prompt_id=str(place), messages=(), response_ids=names, texts=names, policies=names)
        ids = tuple(np.asarray(one, np.int32) for one in continuations[place])
        return TokenGroup(made, np.asarray(prompts[place], np.int32), ids)

    groups = [group(place) for place in range(len(prompts))]
    found: list[list[float]] = [[] for _ in groups]
    with answering(model):
        if enable_packing(model) == NO_HEAD:
            remedy = "Name a causal language model."
            raise PrefkitError(getattr(model, "name_or_path", "the policy"), NO_HEAD, "a language model", remedy)
        for row in plan_rows([group_tokens(one) for one in groups], ROW_TOKENS):
            sums = iter(log_probs(model, pack([groups[place] for place in row]).to(model.device), 0).sums().tolist())
            for place in row:
                found[place] = [next(sums) for _ in continuations[place]]
            progress(len(row))
    return found


def measure(suite: Suite, taken: Sequence[Taken], *, rounds: int = 1000, seed: int = 0) -> Knowledge:
    """Accuracies by category and overall, and the differences to the first policy.

    Args:
        suite: what was asked.
        taken: by each policy.
        rounds: of the bootstrap.
        seed: of its draws.
    """
    right = {one.name: one.options == np.array([q.answer for q in suite.questions]) for one in taken}
    chances = np.array([1 / len(q.options) for q in suite.questions])
    kinds = np.array([q.category for q in suite.questions])
    names = ["", *sorted(set(kinds.tolist()) - {""})]
    inside = {name: np.ones(len(kinds), bool) if not name else kinds == name for name in names}
    sums: dict[tuple[str, str, str], Sums] = {}
    first = taken[0].name
    for one in taken:
        for name, here in inside.items():
            count, weight = int(here.sum()), here.astype(float)
            sums["accuracy", one.name, name] = ratio(right[one.name] * weight, weight, count)
            if one.name != first:
                change = right[one.name].astype(float) - right[first]
                sums["difference", one.name, name] = ratio(change * weight, weight, count, share=False)
    figures = estimates(sums, resamples=rounds, seed=seed)

    def of(what: str, one: Taken) -> dict[str, Figure]:
        return {name: figures[what, one.name, name] for name in names}

    return Knowledge(
        chance={name: float(chances[here].mean()) for name, here in inside.items()},
        accuracy={one.name: of("accuracy", one) for one in taken},
        difference={one.name: of("difference", one) for one in taken if one.name != first},
        unread={one.name: int((one.options < 0).sum()) for one in taken},
    )


# --- asking ----------------------------------------------------------------------------------------------------------


def _stem(question: Question, by: By) -> str:
    if by == "likelihood":
        return question.text
    options = "\n".join(f"{LETTERS[place]}. {option}" for place, option in enumerate(question.options))
    return f"{question.text}\n\n{options}\n\n{ASK}"


def _prompts(tokenizer: Any, said: Sequence[str], template: Mapping[str, Any]) -> list[list[int]]:
    """Questions in tokens, through the chat template where there is one."""
    from prefkit.policies.templates import prompt_ids

    if tokenizer.chat_template:
        return [list(ids) for ids in prompt_ids(tokenizer, said, template, "the policy")]
    return [list(ids) for ids in tokenizer([f"Question: {one}\nAnswer:" for one in said])["input_ids"]]


def _continuations(tokenizer: Any, question: Question, by: By) -> list[list[int]]:
    """Each option in tokens; a blank parts it from ``Answer:``."""
    options = question.options if by == "likelihood" else LETTERS[: len(question.options)]
    blank = "" if tokenizer.chat_template else " "
    return [list(tokenizer(f"{blank}{one}", add_special_tokens=False)["input_ids"]) for one in options]


def _need_room(
    model: Any, prompts: Sequence[Any], spoken: Sequence[Sequence[Any]], questions: Sequence[Question], name: str
) -> None:
    context = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)
    for question, prompt, parts in zip(questions, prompts, spoken, strict=True):
        longest = len(prompt) + max(map(len, parts))
        if longest > context:
            found = f"row {question.number}, {longest:,} tokens with its longest option"
            remedy = "Leave the row out, or take a model with more context."
            raise PrefkitError(name, found, f"at most the context of {context:,}", remedy)


def _answered(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    name: str,
    template: Mapping[str, Any],
    progress: Callable[[int], None],
) -> Taken:
    from prefkit.policies.sampling import sample
    from prefkit.policies.templates import need_chat_template

    need_chat_template(tokenizer, name)
    answers = sample(
        model,
        tokenizer,
        [_stem(one, "answer") for one in questions],
        max_tokens=ANSWER_TOKENS,
        temperature=0,
        template=template,
        received=lambda place, answer: progress(1),
    )
    replies = [several[0].text for several in answers]
    options = [letter_of(reply, one.options) for reply, one in zip(replies, questions, strict=True)]
    return Taken(name, np.array(options, np.int64), replies=replies)


def letter_of(reply: str, options: Sequence[str]) -> int:
    """Which option an answer names, from 0; -1 where it names none, or two.

    The letter stands alone at the start of a line, behind words such as "the answer is", or once in brackets; or the
    words of one option, and of no other, stand in the answer.

    >>> letter_of("The correct answer is (B).", ["Yes", "No"])
    1
    >>> letter_of("A person may feel that way.", ["Yes", "No"])
    -1
    """
    from prefkit.marking import spoken

    said = spoken(reply)[0]
    known = LETTERS[: len(options)]
    for pattern in (_SAID, _ALONE):
        found = {letter for match in pattern.finditer(said) for letter in match.groups() if letter and letter in known}
        if len(found) == 1:
            return known.index(found.pop())
        if found:
            return -1
    named = [place for place, option in enumerate(options) if option.casefold() in said.casefold()]
    return named[0] if len(named) == 1 else -1
