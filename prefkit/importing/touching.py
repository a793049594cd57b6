"""Which names a row looks up or gives, so that it is known which rows can touch the same records.

Rows that have no name in common, not even through other rows or records, bring the same whether the others are there or
not: ``Resolver`` looks up nothing else. Names of responses count only where they stand for one response each, as those
that stand for several are refused wherever they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prefkit.records import Message, prompt_id
from prefkit.rows.drafts import ComparisonDraft, Draft, PromptDraft, RatingDraft, ResponseDraft, ResponseRef, Target


def prompt_names(name: str, keys: Iterable[str]) -> Iterator[str]:
    """The names of a prompt of the run: its id as it is, and its keys."""
    yield name
    yield from (f"key {key}" for key in keys)


def response_names(name: str, keys: Iterable[str]) -> Iterator[str]:
    """The names of a response of the run, beside those of its prompt."""
    yield f"response {name}"
    yield from map(response_key, keys)


def response_key(key: str) -> str:
    """A response's key as a name."""
    return f"response key {key}"


def touched(draft: Draft, prefix: str) -> Iterator[str]:
    """The names that a draft looks up or gives.

    Args:
        draft: from a row.
        prefix: of the file's keys.
    """
    if isinstance(draft, PromptDraft):
        yield from _of_prompt(draft, prefix)
    for target in _targets(draft):
        if target.prompt is not None:
            yield from _of_prompt(target.prompt, prefix)
        if isinstance(target, ResponseRef) and target.key is not None:
            yield from response_names(target.key, (prefix + target.key,))


def looked_up(draft: Draft, prefix: str) -> Iterator[str]:
    """The keys by which a draft may look for a response."""
    for target in _targets(draft):
        if isinstance(target, ResponseRef):
            yield from (prefix + name for name in (target.key, target.policy) if name is not None)


def _targets(draft: Draft) -> tuple[Target, ...]:
    if isinstance(draft, ComparisonDraft):
        return draft.a, draft.b
    if isinstance(draft, RatingDraft):
        return (draft.response,)
    return (draft,) if isinstance(draft, ResponseDraft) else ()


def _of_prompt(prompt: PromptDraft | str, prefix: str) -> Iterator[str]:
    if isinstance(prompt, str):
        words = prompt_id((Message(role="user", content=prompt),))
        yield from (*prompt_names(prompt, (prefix + prompt,)), words)
        return
    key = prefix + prompt.key if prompt.key else None
    yield from prompt_names(prompt_id(prompt.messages, key if prompt.distinct else None), (key,) if key else ())
