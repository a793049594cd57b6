"""Preference files: rows to a prompt, its responses and who is preferred.

Reads   what ``prefkit import judgements`` knows with its texts (trl's preference formats with explicit or implicit
        prompt, hh-rlhf, PandaLM, LLMBar, AlpacaEval), PsychoCounsel, RewardBench 1 and 2, HHH in Prometheus' words
Gives   Compared: one row's prompt, texts and pairs; an Unfit with the reason where it has none

Columns beside the texts are used where they are there: ``weight``, ``preferred`` (the probability that the chosen side
is better), ``rating_gap`` and ``gaps``, scores of both sides, the models' names, ``subset`` or ``topic``, ids.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from prefkit.errors import InputError
from prefkit.records import Message
from prefkit.rows.cells import as_key, as_messages, as_number
from prefkit.rows.drafts import ComparisonDraft, PromptDraft, ResponseDraft, Unfit
from prefkit.rows.presets import PRESETS, Source, find_preset
from prefkit.rubric import Principle, Rubric

UNNAMED = "human:unnamed"
"""The annotator of a file that does not say who judged."""
UNKNOWN = ""
"""The policy of a response whose file does not name it."""


class ComparedPair(msgspec.Struct, array_like=True):
    """A pair among the texts of a row; the fields of ``groups.Pair``, and the annotators."""

    chosen: int
    rejected: int
    preferred: float = 1.0
    weight: float = 1.0
    gap: float | None = None
    gaps: dict[str, float | None] = {}
    principle_preferred: dict[str, float | None] = {}
    annotators: tuple[str, ...] = ()
    id: str | None = None


class Compared(msgspec.Struct, array_like=True):
    """What a row says. ``policies`` and ``response_ids`` are aligned with ``texts``; a None is made up later."""

    messages: tuple[Message, ...]
    texts: tuple[str, ...]
    policies: tuple[str, ...]
    pairs: tuple[ComparedPair, ...] = ()
    topic: str | None = None
    prompt_id: str | None = None
    response_ids: tuple[str | None, ...] = ()


Row = Mapping[str, Any]
Reader = Callable[[Row, "Reading"], Compared]


class Reading(msgspec.Struct, frozen=True):
    """How rows are read: texts as they stand; labels as shares of votes, or as their majority."""

    plain: bool = False
    soft: bool = True


def reader_for(source: object, first: Row, reading: Reading, *, all_responses: bool) -> Reader:
    """How the rows of a file are read, told by its first.

    Raises:
        InputError: it has no columns of a kind that is known.
    """
    if reading.plain:
        if all(isinstance(first.get(side), str) for side in ("chosen", "rejected")):
            return plain_texts
        found = "chosen and rejected that are no plain texts" if "chosen" in first else _columns(first)
        raise InputError(source, found, "prompt, chosen and rejected as texts", "Leave out --plain.")
    if {"chosen_instruction", "rejected_instruction"} <= first.keys():
        return hhh
    if _is_texts(first.get("chosen")) and _is_texts(first.get("rejected")):
        return best_of_several
    if {"question", "chosen", "rejected"} <= first.keys() and "prompt" not in first:
        return psychocounsel
    preset = find_preset("judgements", first)
    if preset is not None and preset.name in _PRESETS_WITH_TEXTS:
        return _PRESETS_WITH_TEXTS[preset.name]
    if all_responses and (name := _response_column(first)):
        return lambda row, reading: answers(row, reading, name)
    if preset is not None:
        remedy = (
            f"Import it into a run (prefkit import judgements RUN FILE --preset {preset.name}) and build its pairs."
        )
        raise InputError(source, f"a file of ratings ({preset.name})", "pairs with their texts", remedy)
    if _response_column(first):
        remedy = "Preferences need two responses to a prompt and which is better; one alone can only be scored."
        raise InputError(source, "one response for each row", "prompt, chosen and rejected", remedy)
    remedy = "Rename its columns, or import it into a run: `prefkit import judgements` takes --map."
    raise InputError(source, _columns(first), "prompt, chosen and rejected", remedy)


def _columns(first: Row) -> str:
    names = ", ".join(list(first)[:6])
    return f"the columns {names}{', ...' if len(first) > 6 else ''}"


def preference(row: Row, reading: Reading) -> Compared:
    """chosen and rejected, with what else the row says of them; see ``rows.presets``."""
    preset = "hh-rlhf" if "prompt" not in row and str(row.get("chosen")).startswith("\n\nHuman:") else "preference"
    (draft,) = _drafts(preset, row, reading)
    better, worse = (draft.a, draft.b) if draft.winner == "a" else (draft.b, draft.a)
    assert isinstance(better, ResponseDraft) and isinstance(worse, ResponseDraft)
    policies = tuple(_first_key(row, _POLICY_COLUMNS, side) or UNKNOWN for side in ("chosen", "rejected"))
    ids = tuple(as_key(row.get(f"{side}_id")) for side in ("chosen", "rejected"))
    return Compared(
        _messages(better),
        (better.text or "", worse.text or ""),
        policies,
        (_pair(row, reading),),
        _topic(row),
        as_key(row.get("prompt_id")) if all(ids) else None,
        ids if all(ids) else (),
    )


def psychocounsel(row: Row, reading: Reading) -> Compared:
    """PsychoCounsel-Preference: question, chosen, rejected, their models, and a rating of each on each principle."""
    return preference({**row, "prompt": row["question"]}, reading)


def compared_by_annotators(preset: str) -> Reader:
    """A row with two responses and the verdicts of several annotators; people's go before a model's."""

    def read(row: Row, reading: Reading) -> Compared:
        drafts = [draft for draft in _drafts(preset, row, reading) if draft.winner is not None]
        people = [draft for draft in drafts if draft.annotator.startswith("human:")]
        drafts = people or drafts
        if not drafts:
            raise Unfit("no verdict")
        a, b = drafts[0].a, drafts[0].b
        assert isinstance(a, ResponseDraft) and isinstance(b, ResponseDraft)
        for_a = [_for_a(draft) if draft.a == a else 1 - _for_a(draft) for draft in drafts]
        share = sum(for_a) / len(for_a) if reading.soft else _majority(for_a)
        pair = _pair(row, reading)
        pair.chosen, pair.rejected = (0, 1) if share >= 0.5 else (1, 0)
        pair.preferred = max(share, 1 - share)
        pair.annotators = tuple(draft.annotator for draft in drafts)
        return Compared(_messages(a), (a.text or "", b.text or ""), _policies(a, b), (pair,), _topic(row))

    return read


def _policies(a: ResponseDraft, b: ResponseDraft) -> tuple[str, str]:
    """Who wrote the two; a name that only says which stood first is none."""
    first, second = (UNKNOWN if _PLACE.fullmatch(one.policy) else one.policy for one in (a, b))
    return first, second


_PLACE = re.compile(r"(output|generator|response)_?[12]")
_PRESETS_WITH_TEXTS: dict[str, Reader] = {
    "hh-rlhf": preference,
    "preference": preference,
    **{name: compared_by_annotators(name) for name in ("pandalm", "llmbar", "alpaca-eval")},
}


def best_of_several(row: Row, reading: Reading) -> Compared:
    """RewardBench 2: lists of right and wrong answers; each of the right is better than each of the wrong."""
    sides = [row["chosen"], row["rejected"]]
    if not all(map(_is_texts, sides)):
        raise Unfit("chosen or rejected is not a list of texts")
    models = row.get("models")
    chosen, rejected = sides
    texts = (*chosen, *rejected)
    policies = tuple(map(str, models)) if _is_texts(models) and len(models) == len(texts) else (UNKNOWN,) * len(texts)
    name = as_key(row.get("id"))
    pairs = tuple(
        ComparedPair(
            better,
            worse,
            weight=_weight(row),
            annotators=(UNNAMED,),
            id=f"{name}/{better}-{worse - len(chosen)}" if name else None,
        )
        for better in range(len(chosen))
        for worse in range(len(chosen), len(texts))
    )
    return Compared(_prompt(row.get("prompt")), texts, policies, pairs, _topic(row))


_HHH = re.compile(
    r"###The instruction to evaluate:\n(.*)\n\n###Response to evaluate:\n(.*)\n\n###Score Rubrics:", re.DOTALL
)


def hhh(row: Row, reading: Reading) -> Compared:
    """HHH alignment in the words of Prometheus: instruction and response stand inside a task description."""
    sides = [_HHH.search(str(row[f"{side}_instruction"])) for side in ("chosen", "rejected")]
    if sides[0] is None or sides[1] is None or sides[0][1] != sides[1][1]:
        raise Unfit("no instruction and response in Prometheus' words")
    texts = (sides[0][2], sides[1][2])
    return Compared(_prompt(sides[0][1]), texts, (UNKNOWN,) * 2, (_pair(row, reading),), _topic(row))


def plain_texts(row: Row, reading: Reading) -> Compared:
    """chosen and rejected as they stand, blanks included: a prompt's text, or what the two begin with."""
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise Unfit("not a text", "chosen" if not isinstance(chosen, str) else "rejected")
    prompt = row.get("prompt")
    if prompt is None:
        prompt = _shared_words(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    elif not isinstance(prompt, str):
        raise Unfit("not a text", "prompt")
    return Compared(
        (Message(role="user", content=prompt),),
        (chosen, rejected),
        tuple(_first_key(row, _POLICY_COLUMNS, side) or UNKNOWN for side in ("chosen", "rejected")),
        (_pair(row, reading),),
        _topic(row),
    )


def _shared_words(chosen: str, rejected: str) -> str:
    """What two dialogues share, up to the last speaker or the last blank."""
    shared = os.path.commonprefix([chosen, rejected])  # noqa: RUF071
    speaker = shared.rfind("\n\nAssistant:")
    if speaker >= 0:
        return shared[: speaker + len("\n\nAssistant:")]
    return shared[: max(shared.rfind(" "), shared.rfind("\n"), 0)]


def answers(row: Row, reading: Reading, column: str) -> Compared:
    """A prompt and one response or several, of which nobody said which is better."""
    said = row[column]
    texts = tuple(said) if _is_texts(said) else (said,)
    if not all(isinstance(text, str) for text in texts):
        raise Unfit("not a text", column)
    policy = next((name for key in ("policy", "model", "generator") if (name := as_key(row.get(key)))), UNKNOWN)
    prompt = next((row[key] for key in _PROMPT_COLUMNS if row.get(key)), None)
    return Compared(_prompt(prompt), texts, (policy,) * len(texts), (), _topic(row))


_PROMPT_COLUMNS = ("prompt", "question", "instruction", "messages")
_RESPONSE_COLUMNS = ("responses", "response", "completions", "completion", "outputs", "output", "answer")


def _response_column(first: Row) -> str | None:
    if not any(first.get(name) for name in _PROMPT_COLUMNS):
        return None
    return next(
        (name for name in _RESPONSE_COLUMNS if isinstance(first.get(name), str) or _is_texts(first.get(name))), None
    )


def _is_texts(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)


def _prompt(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str) and value.strip():
        return (Message(role="user", content=value.strip()),)
    if not value or isinstance(value, str):
        raise Unfit("no prompt")
    return as_messages(value)


def _messages(response: ResponseDraft) -> tuple[Message, ...]:
    assert isinstance(response.prompt, PromptDraft)
    return response.prompt.messages


_NO_RUBRIC = Rubric(
    id="none",
    version=1,
    title="None",
    unit="response",
    principles=(Principle(id="none", title="None", statement="None."),),
)


def _drafts(preset: str, row: Row, reading: Reading) -> list[ComparisonDraft]:
    judges = (
        {"annotator": UNNAMED} if preset == "preference" else {"annotator": "llm:unnamed"} if "results" in row else {}
    )
    source = Source(UNKNOWN, _NO_RUBRIC, judges)
    return [draft for draft in PRESETS[preset].read(row, source) if isinstance(draft, ComparisonDraft)]


def _for_a(draft: ComparisonDraft) -> float:
    if draft.preference is not None:
        return 1 - draft.preference
    return {"a": 1.0, "b": 0.0, "tie": 0.5, None: math.nan}[draft.winner]


def _majority(for_a: Sequence[float]) -> float:
    """1 where more than half prefer ``a``, 0 where they prefer ``b``, else 0.5."""
    votes = len(for_a) / 2
    if sum(share > 0.5 for share in for_a) > votes:
        return 1.0
    return 0.0 if sum(share < 0.5 for share in for_a) > votes else 0.5


_POLICY_COLUMNS = ("{}_policy", "{}_model")
_SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen_rating", "rejected_rating"),
)
_PRINCIPLE = re.compile(r"chosen_(\w+)_rating")


def _pair(row: Row, reading: Reading) -> ComparedPair:
    """The pair of a row whose chosen text stands first."""
    gaps = _gaps(row)
    gap = _gap(row)
    if gap is None and gaps and None not in gaps.values():
        known = [value for value in gaps.values() if value is not None]
        gap = sum(known) / len(known)
    preferred = _share(row.get("preferred"), "preferred")
    if not reading.soft and preferred is not None:
        preferred = 0.5 if preferred == 0.5 and not gap else 1.0
    named = row.get("principle_preferred")
    annotators = row.get("annotators")
    return ComparedPair(
        0,
        1,
        1.0 if preferred is None else preferred,
        _weight(row),
        gap,
        gaps,
        {name: _share(value, name) for name, value in named.items()} if isinstance(named, Mapping) else {},
        tuple(annotators) if _is_texts(annotators) else (UNNAMED,),
        as_key(row.get("id")),
    )


def _weight(row: Row) -> float:
    """The weight of a row, 1 where it has none.

    Raises:
        InputError: it is no number from 0.
    """
    value = row.get("weight")
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not (math.isfinite(weight) and weight >= 0):
        raise InputError("weight", f"{value!r}", "a number from 0", "Mend the column, or leave it out.")
    return weight


def _share(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    share = as_number(value, name)
    if not 0 <= share <= 1:
        raise Unfit(f"{name} is not a probability", f"{value!r}")
    return share


def _gap(row: Row) -> float | None:
    if row.get("rating_gap") not in (None, ""):
        return as_number(row["rating_gap"], "rating_gap")
    for chosen, rejected in _SCORE_COLUMNS:
        if row.get(chosen) not in (None, "") and row.get(rejected) not in (None, ""):
            return as_number(row[chosen], chosen) - as_number(row[rejected], rejected)
    return None


def _gaps(row: Row) -> dict[str, float | None]:
    given = row.get("gaps")
    if isinstance(given, Mapping):
        return {name: None if value is None else as_number(value, name) for name, value in given.items()}
    names = [match[1] for column in row if (match := _PRINCIPLE.fullmatch(column))]
    rated = {name: (row[f"chosen_{name}_rating"], row.get(f"rejected_{name}_rating")) for name in names}
    return {
        name: None if None in sides or "" in sides else as_number(sides[0], name) - as_number(sides[1], name)
        for name, sides in rated.items()
    }


def _first_key(row: Row, columns: Sequence[str], side: str) -> str | None:
    return next((name for column in columns if (name := as_key(row.get(column.format(side))))), None)


def _topic(row: Row) -> str | None:
    names = ("topic", "subset", "category", "source", "motivation_app")
    return next((topic for name in names if (topic := as_key(row.get(name)))), None)
