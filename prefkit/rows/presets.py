"""The shapes that people's files have, each read without a mapping.

A preset is chosen by its columns, or by name (``--preset``). Where a row holds prompt, responses and verdict, all
three are imported. What a preset assumes stands in its docstring, which ``prefkit import presets`` prints.

The name of a policy never tells which side won: where a file calls its sides only "chosen" and "rejected", both get the
file's name as policy, and which is shown first (``a``) follows from a digest of their words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from prefkit.records import Message, Winner, digest
from prefkit.rows.cells import as_key, as_messages, as_number, as_text
from prefkit.rows.drafts import ComparisonDraft, Draft, PromptDraft, RatingDraft, ResponseDraft, Target, Unfit
from prefkit.rubric import Rubric


@dataclass(frozen=True)
class Source:
    """What a preset may know beside the row: the file's name, the rubric, and what the user set for the whole file."""

    file: str
    rubric: Rubric
    constants: Mapping[str, str]

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return re.sub(r"(\.(gz|bz2|xz|jsonl|ndjson|json|csv|tsv|parquet|xlsx?))+$", "", Path(self.file).name)

    def annotator(self, default: str | None = None) -> str:
        """Who judged: what the user set, or the preset's default."""
        name = self.constants.get("annotator", default)
        if name is None:
            raise Unfit("no annotator", "the file does not say who judged: --set annotator=llm:NAME or human:NAME")
        return name


Reader = Callable[[Mapping[str, Any], Source], list[Draft]]


@dataclass(frozen=True)
class Preset:
    """A shape: its name, the kinds of import it serves, the columns it is known by, and how a row is read."""

    name: str
    kinds: tuple[str, ...]
    known_by: Callable[[Mapping[str, Any]], bool]
    read: Reader
    takes: tuple[str, ...] = ()
    """The fields that the user may set for the whole file."""


def find_preset(kind: str, first: Mapping[str, Any]) -> Preset | None:
    """The first preset for this kind of import that knows a file by its first row."""
    return next((preset for preset in PRESETS.values() if kind in preset.kinds and preset.known_by(first)), None)


def _has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda first: set(names) <= first.keys()


def fastchat_questions(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """FastChat's question.jsonl: question_id, turns, category. The first turn is the prompt."""
    turns = _turns(values.get("turns"))
    return [PromptDraft(_user(turns[0]), as_key(values.get("category")), as_key(values.get("question_id")))]


def fastchat_answers(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """FastChat's model_answer/MODEL.jsonl: question_id, choices. The policy is the file's name, whatever model_id says.

    --set policy=NAME gives it another.
    """
    policy = source.constants.get("policy", source.stem)
    said = as_key(values.get("model_id"))
    note = f"model_id says {said!r}; the policy is {policy!r}" if said not in (None, policy) else None
    choices = values.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Unfit("no choices")
    return [
        ResponseDraft(_needed(values, "question_id"), policy, _turns(choice.get("turns"))[0], sample, note=note)
        for sample, choice in enumerate(choices)
    ]


def hh_rlhf(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """hh-rlhf: chosen and rejected, two dialogues ("\\n\\nHuman: ...\\n\\nAssistant: ...") that differ in the last
    turn."""
    return _preference(
        *_shared_start(_dialogue(values.get("chosen")), _dialogue(values.get("rejected"))), source, "human:hh-rlhf"
    )


def preference(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """A preference set for trl: chosen and rejected, plain or conversational, the prompt explicit or as their
    shared start."""
    chosen, rejected = (_chat(values.get(side), side) for side in ("chosen", "rejected"))
    raw = values.get("prompt")
    if raw in (None, "", []):
        return _preference(*_shared_start(chosen, rejected), source, None)
    prompt = _user(raw) if isinstance(raw, str) else as_messages(raw)
    if len(chosen) == len(rejected) == 1:
        chosen, rejected = (*prompt, *chosen), (*prompt, *rejected)
    start, better, worse = _shared_start(chosen, rejected)
    if start[-1].content.strip() != prompt[-1].content.strip():
        raise Unfit("the dialogues do not go on from the prompt")
    return _preference(max(prompt, start, key=len), better, worse, source, None)


def psychocounsel(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """PsychoCounsel-Preference: question, chosen, rejected, their models, and a rating of each side on each
    principle."""
    prompt = PromptDraft(_user(_needed(values, "question")), key=as_key(values.get("ID")))
    drafts: list[Draft] = []
    for side in ("chosen", "rejected"):
        response = ResponseDraft(prompt, _needed(values, f"{side}_model"), as_text(values.get(side), side))
        scores = {
            name: values[f"{side}_{name}_rating"]
            for name in source.rubric.principle_ids
            if f"{side}_{name}_rating" in values
        }
        drafts.append(RatingDraft(response, source.annotator("llm:gpt-4o"), scores))
    return drafts


def ultrafeedback(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """UltraFeedback: instruction and completions, each with model, response and annotations.PRINCIPLE.Rating."""
    prompt = PromptDraft(_user(_needed(values, "instruction")), as_key(values.get("source")))
    drafts: list[Draft] = []
    completions = values.get("completions")
    for completion in completions if isinstance(completions, list) else ():
        if not isinstance(completion, dict):
            raise Unfit("a completion that is not an object", repr(completion)[:80])
        response = ResponseDraft(prompt, _needed(completion, "model"), as_text(completion.get("response"), "response"))
        given = completion.get("annotations")
        parts = {name: given.get(name) for name in source.rubric.principle_ids} if isinstance(given, dict) else {}
        scores = {name: part.get("Rating") for name, part in parts.items() if isinstance(part, dict)}
        drafts.append(RatingDraft(response, source.annotator("llm:gpt-4"), scores) if scores else response)
    if not drafts:
        raise Unfit("no completions")
    return drafts


def alpaca_eval(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """AlpacaEval's annotations.json: output_1 and output_2, preference from 1 (the first wins) to 2; 0 and 1.5 are
    ties."""
    prompt = PromptDraft(_user(_needed(values, "instruction")), as_key(values.get("dataset")))
    a, b = (_output(prompt, values, side) for side in ("1", "2"))
    raw = values.get("preference")
    if raw is None or (isinstance(raw, float) and math.isnan(raw)):
        raise Unfit("no preference", "null: the judge's answer was not read")
    said = as_number(raw, "preference")
    preference = said - 1 if said else 0.5
    if not 0 <= preference <= 1:
        raise Unfit("no preference", f"{raw!r}; expected 1 to 2, or 0 for a tie")
    winner: Winner = "tie" if preference == 0.5 else "b" if preference > 0.5 else "a"
    annotator = source.annotator("llm:" + str(values.get("annotator") or "alpaca-eval"))
    return [ComparisonDraft(a, b, annotator, winner, preference=preference)]


def _output(prompt: PromptDraft, values: Mapping[str, Any], side: str) -> ResponseDraft:
    policy = as_key(values.get(f"generator_{side}")) or f"generator_{side}"
    return ResponseDraft(prompt, policy, _said(values, f"output_{side}"))


def pandalm(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """PandaLM's test set: response1 and response2, annotator1 to annotator3 (1 or 2 won, 0 is a tie); cmp_key names the
    two policies."""
    parts = (str(values.get(name) or "").strip() for name in ("instruction", "input"))
    words = "\n\n".join(part for part in parts if part)
    prompt = PromptDraft(_user(words), as_key(values.get("motivation_app")))
    policies = (as_key(values.get("cmp_key")) or "response1_response2").split("_")
    if len(policies) != 2 or not all(policies):
        raise Unfit("cmp_key does not name two policies", repr(values["cmp_key"]))
    a, b = (ResponseDraft(prompt, name, _said(values, f"response{side}")) for side, name in enumerate(policies, 1))
    winners: dict[str | None, Winner] = {"0": "tie", "1": "a", "2": "b"}
    drafts: list[Draft] = []
    for name in sorted(name for name in values if re.fullmatch(r"annotator\d+", name)):
        winner = winners.get(as_key(values[name]))
        if winner is None:
            raise Unfit("not a winner", f"{name}: {values[name]!r}; expected 0, 1 or 2")
        drafts.append(ComparisonDraft(a, b, f"human:pandalm-{name.removeprefix('annotator')}", winner))
    return drafts


def llmbar(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """LLMBar's dataset.json and result.json: input, output_1, output_2, label (1 or 2 is better: human:gold); results
    hold a judge's winner with the outputs in their order and swapped."""
    prompt = PromptDraft(_user(_needed(values, "input")))
    first, second = (ResponseDraft(prompt, f"output_{side}", _said(values, f"output_{side}")) for side in (1, 2))
    winners: dict[str | None, Winner] = {"1": "a", "2": "b"}
    gold = winners.get(as_key(values.get("label")))
    if gold is None:
        raise Unfit("not a winner", f"label: {values.get('label')!r}; expected 1 or 2")
    if "results" not in values:
        return [ComparisonDraft(first, second, source.annotator("human:gold"), gold)]
    drafts: list[Draft] = [ComparisonDraft(first, second, "human:gold", gold)]
    for swapped in (False, True):
        said = _verdict(values["results"], f"swap = {swapped}")
        winner, reply = winners.get(as_key(said.get("winner"))), said.get("completion")
        words = str(reply[0] if isinstance(reply, list) and reply else reply or "")
        a, b = (second, first) if swapped else (first, second)
        shown: Winner | None = winner if winner is None or not swapped else "b" if winner == "a" else "a"
        unread = None if winner else "no winner in the reply"
        drafts.append(ComparisonDraft(a, b, source.annotator(), shown, failure=unread, reply=words))
    return drafts


def _verdict(results: Any, order: str) -> Mapping[str, Any]:
    """What the last step of a judge said about the outputs in one order."""
    last = results[-1] if isinstance(results, list) and results else None
    said = last.get(order) if isinstance(last, dict) else None
    if not isinstance(said, dict):
        raise Unfit("no verdict", f"results hold no {order!r}")
    return said


_JUDGED = re.compile(r"\s*(human|judge)_response_(\w+)\s*")


def mentalbench(values: Mapping[str, Any], source: Source) -> list[Draft]:
    """MentalBench-Align's xlsx: ConvID, context, and for each system a cell of JSON with a score for each attribute.

    A conversation is known by its ConvID: two of the same context are two. The responses' texts are not in these files.
    """
    context = _needed(values, "context")
    prompt = PromptDraft(_user(context), key=as_key(values.get("ConvID")), distinct=True)
    drafts: list[Draft] = []
    for column, cell in values.items():
        match = _JUDGED.fullmatch(column)
        if match:
            annotator = source.annotator("human:mentalbench" if match[1] == "human" else None)
            response = ResponseDraft(prompt, match[2], None)
            drafts.append(_rating_cell(response, annotator, cell, source.rubric))
    return drafts


def _rating_cell(response: Target, annotator: str, cell: Any, rubric: Rubric) -> RatingDraft:
    """A cell of JSON, with a fence or words around it or not; one that cannot be read is kept as it is, without a
    score."""
    text = str(cell or "").strip()
    if not text:
        return RatingDraft(response, annotator, {}, failure="empty cell", reply="")
    inner = text[max(text.find("{"), 0) : text.rfind("}") + 1]
    try:
        scores = msgspec.json.decode(inner, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return RatingDraft(response, annotator, {}, failure="not a JSON object", reply=text)
    by_name = {name.casefold(): value for name, value in scores.items()}
    return RatingDraft(response, annotator, {name: by_name.get(name.casefold()) for name in rubric.principle_ids})


def _preference(
    prompt: tuple[Message, ...], chosen: str, rejected: str, source: Source, annotator: str | None
) -> list[Draft]:
    if not chosen.strip() or not rejected.strip():
        raise Unfit("empty response", "chosen" if not chosen.strip() else "rejected")
    if chosen == rejected:
        raise Unfit("chosen and rejected are the same text")
    draft = PromptDraft(prompt)
    policy = source.constants.get("policy", source.stem)
    best, other = ResponseDraft(draft, policy, chosen), ResponseDraft(draft, policy, rejected)
    if digest(chosen, rejected) > digest(rejected, chosen):
        return [ComparisonDraft(other, best, source.annotator(annotator), "b")]
    return [ComparisonDraft(best, other, source.annotator(annotator), "a")]


def _shared_start(chosen: tuple[Message, ...], rejected: tuple[Message, ...]) -> tuple[tuple[Message, ...], str, str]:
    """Two dialogues that differ in their last turn: (prompt, chosen, rejected)."""
    if chosen[:-1] != rejected[:-1]:
        raise Unfit("chosen and rejected answer different prompts")
    if {chosen[-1].role, rejected[-1].role} != {"assistant"}:
        raise Unfit("no response", "the dialogue does not end with a response")
    if not chosen[:-1] or chosen[-2].role != "user":
        raise Unfit("no prompt", "the dialogue does not go from client to response")
    return chosen[:-1], chosen[-1].content, rejected[-1].content


def _chat(value: Any, side: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return _dialogue(value) if value.startswith("\n\nHuman:") else (Message(role="assistant", content=value),)
    try:
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in value]
        messages = msgspec.convert(turns, tuple[Message, ...])
    except (msgspec.ValidationError, TypeError, KeyError):
        raise Unfit("not a text or a dialogue", side) from None
    if not messages:
        raise Unfit("empty response", side)
    return messages


_TURN = re.compile(r"\n\n(Human|Assistant):")


def _dialogue(text: Any) -> tuple[Message, ...]:
    if not isinstance(text, str) or not text.startswith("\n\nHuman:"):
        raise Unfit("not a dialogue", "expected a text that starts with '\\n\\nHuman:'")
    _, *parts = _TURN.split(text)
    roles = ("user" if speaker == "Human" else "assistant" for speaker in parts[::2])
    turns: list[Message] = []
    for role, words in zip(roles, parts[1::2], strict=True):
        if turns and turns[-1].role == role:
            turns[-1] = Message(role=role, content=f"{turns[-1].content}\n\n{words.strip()}".strip())
        else:
            turns.append(Message(role=role, content=words.strip()))  # type: ignore[arg-type]
    return tuple(turns)


def _user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text.strip()),)


def _turns(value: Any) -> list[str]:
    if not isinstance(value, list) or not value or not isinstance(value[0], str) or not value[0].strip():
        raise Unfit("no turns", "expected a list of texts")
    return value


def _said(values: Mapping[str, Any], name: str) -> str:
    """An answer that may be empty: a model gave it, and an annotator saw it."""
    said = values.get(name)
    if said is None or isinstance(said, list | dict):
        raise Unfit("no response", f"{name} is {said!r:.80}")
    return str(said)


def _needed(values: Mapping[str, Any], name: str) -> str:
    text = as_key(values.get(name))
    if text is None:
        raise Unfit(f"empty {name}")
    return text


def _dialogues(first: Mapping[str, Any]) -> bool:
    return first.keys() == {"chosen", "rejected"} and str(first["chosen"]).startswith("\n\nHuman:")


def _cells(first: Mapping[str, Any]) -> bool:
    return "ConvID" in first and any(_JUDGED.fullmatch(column) for column in first)


_JUDGEMENTS = ("judgements",)
PRESETS = {
    preset.name: preset
    for preset in (
        Preset("fastchat-questions", ("prompts",), _has("question_id", "turns"), fastchat_questions),
        Preset("fastchat", ("responses",), _has("question_id", "choices"), fastchat_answers, ("policy",)),
        Preset("mentalbench", _JUDGEMENTS, _cells, mentalbench, ("annotator",)),
        Preset("pandalm", _JUDGEMENTS, _has("response1", "response2", "annotator1"), pandalm),
        Preset("alpaca-eval", _JUDGEMENTS, _has("output_1", "output_2", "preference"), alpaca_eval, ("annotator",)),
        Preset("llmbar", _JUDGEMENTS, _has("input", "output_1", "output_2", "label"), llmbar, ("annotator",)),
        Preset("ultrafeedback", _JUDGEMENTS, _has("instruction", "completions"), ultrafeedback, ("annotator",)),
        Preset(
            "psychocounsel",
            _JUDGEMENTS,
            _has("question", "chosen", "rejected", "chosen_model"),
            psychocounsel,
            ("annotator",),
        ),
        Preset("hh-rlhf", _JUDGEMENTS, _dialogues, hh_rlhf, ("annotator", "policy")),
        Preset("preference", _JUDGEMENTS, _has("chosen", "rejected"), preference, ("annotator", "policy")),
    )
}
