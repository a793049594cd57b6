"""Drafts to records: ids, references, conflicts, counts.

Every draft either becomes a record that the run holds (new, or from before), or is refused under a named reason. What
is new goes to the spools; nothing here touches the run's own files before ``commit``.

Memory: the ids of the run, about 400 bytes a record.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from prefkit.errors import InputError, RecordError
from prefkit.records import (
    Comparison,
    Judgement,
    Message,
    Prompt,
    Rating,
    Response,
    Score,
    digest,
    is_annotator,
    judgement_id,
    prompt_id,
    response_id,
)
from prefkit.rows.drafts import ComparisonDraft, Draft, PromptDraft, RatingDraft, ResponseDraft, Target, Unfit
from prefkit.rows.files import Row
from prefkit.rubric import Principle
from prefkit.run import Run


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """How a file is read."""

    preset: str | None = None
    """A preset's name, ``none`` for columns only, or None to know the shape by its columns."""
    mapping: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    key_prefix: str = ""
    """Put before every key of this file, where two sources number their prompts alike."""
    keep_out_of_range: bool = False
    skip_broken: bool = False
    format: str | None = None
    sheet: str | None = None
    split: str | None = None


@dataclass
class ImportReport:
    """Where the rows of a file went."""

    file: str
    read_as: str
    rows: int = 0
    rows_imported: int = 0
    imported: Counter[str] = field(default_factory=Counter)
    """Records and scores that the file brought and the run now holds, new or from before."""
    new: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows that brought nothing, by reason. ``rows == rows_imported + sum(rejected)``."""
    notes: Counter[str] = field(default_factory=Counter)
    """Parts of rows: scores left out, judgements kept without a score."""
    rejects: Path | None = None


@dataclass
class Spool:
    """What a file brings for one of the run's files, on disk until the whole file is read."""

    path: Path
    file: BinaryIO

    def lines(self) -> Iterator[bytes]:
        """What was written, a record a line."""
        self.file.flush()
        with open(self.path, "rb") as file:
            yield from file


REPEATED = "repeats an earlier row"

T = TypeVar("T", Prompt, Response, Judgement)


def _each_once(records: Iterator[T], known: Container[str], file: Path | None) -> Iterator[T]:
    """The records of a run, each of which the caller adds to ``known`` before the next.

    Raises:
        RecordError: an id stands twice.
    """
    for number, item in enumerate(records, 1):
        if item.id in known:
            remedy = "Remove one of the two lines."
            where = f"{file.name if file else ''}:{number}: id"
            raise RecordError(where, f"{item.id} a second time", "each record once", remedy)
        yield item


class Resolver:
    """Drafts to records: ids, references, conflicts, counts."""

    def __init__(
        self, run: Run, settings: ImportSettings, spools: dict[Any, Spool], report: ImportReport, rejected: BinaryIO
    ) -> None:
        self.run, self.settings, self.spools, self.report, self.rejected = run, settings, spools, report, rejected
        self.principles = {principle.id: principle for principle in run.rubric.principles}
        self.prompts: dict[str, Prompt] = {}
        self.keys: dict[str, str] = {}
        for prompt in _each_once(run.prompts(), self.prompts, run.file(Prompt)):
            self.prompts[prompt.id] = prompt
            for key in prompt.keys:
                self._name(key, prompt.id)
        self.responses: dict[str, int] = {}
        self.by_policy: dict[tuple[str, str], list[str]] = {}
        self.response_keys: dict[str, str] = {}
        self.prompt_of: dict[str, str] = {}
        for response in _each_once(run.responses(), self.responses, run.file(Response)):
            self._index(response)
        self.judgements: dict[str, int] = {}
        for judgement in _each_once(run.judgements(), self.judgements, run.file(Judgement)):
            self.judgements[judgement.id] = _answer(judgement)
        self.seen: set[str] = set()
        self.given_keys: dict[tuple[str, str], int] = {}
        """(key, prompt's id) as this file has them, and the line where first."""
        self.texts: dict[tuple[str, str], list[int]] = {}
        """(prompt's id, policy) -> digests of the different texts that this file has, in their order."""
        self.first_detail: dict[str, str] = {}
        self.first_line = 0
        self.changed_prompts = False
        self.row: Row

    def take(self, row: Row, reader: Callable[[Mapping[str, Any]], list[Draft]]) -> None:
        """Import one row, or reject it under a reason."""
        self.row = row
        self.first_line = self.first_line or row.number
        self.report.rows += 1
        if row.broken and not self.settings.skip_broken:
            raise broken(self.report.file, row)
        if row.broken:
            self._reject("broken row", row.broken)
            return
        try:
            drafts = reader(row.values)
        except Unfit as unfit:
            self._reject(unfit.reason, unfit.detail)
            return
        fresh = 0
        refused: list[Unfit] = []
        for draft in drafts:
            try:
                fresh += self._take_draft(draft)
            except Unfit as unfit:
                refused.append(unfit)
        if len(refused) < len(drafts):
            for part in refused:
                self._note(f"part of a row: {part.reason}", part.detail)
            if fresh:
                self.report.rows_imported += 1
            else:
                self._reject(REPEATED, "")
        else:
            self._reject(*((refused[0].reason, refused[0].detail) if refused else ("nothing in the row", "")))

    def _take_draft(self, draft: Draft) -> bool:
        """Add a draft's records; whether the file brought any of them for the first time."""
        before = len(self.seen)
        if isinstance(draft, PromptDraft):
            self._prompt(draft)
        elif isinstance(draft, ResponseDraft):
            self._response(draft)
        elif isinstance(draft, RatingDraft):
            self._rating(draft)
        else:
            self._comparison(draft)
        return len(self.seen) > before

    def _prompt(self, draft: PromptDraft) -> str:
        key = self.settings.key_prefix + draft.key if draft.key else None
        known = self.keys.get(key, SEVERAL) if draft.distinct and key else SEVERAL
        if known != SEVERAL:
            if self.prompts[known].messages != draft.messages and not self.prompts[known].scrubbed:
                self._note("other words under a known key: the first kept", f"key {key}")
            self._bring("prompts", known)
            return known
        name = self._prompt_id(draft)
        known_prompt = self.prompts.get(name)
        if known_prompt is None:
            self._count_new("prompts")
            known_prompt = Prompt(id=name, messages=draft.messages, topic=draft.topic)
        elif known_prompt.topic is None and draft.topic:
            known_prompt = msgspec.structs.replace(known_prompt, topic=draft.topic)
        if draft.topic and draft.topic == known_prompt.topic:
            self.seen.add(f"topic of {name}")
        if key and key not in known_prompt.keys:
            known_prompt = msgspec.structs.replace(known_prompt, keys=(*known_prompt.keys, key))
            self._name(key, name)
        if key:
            self.given_keys.setdefault((key, name), self.row.number)
            self.seen.add(f"key {key} of {name}")
        if self.prompts.get(name) != known_prompt:
            self.prompts[name] = known_prompt
            self.changed_prompts = True
        self._bring("prompts", name)
        return name

    def _prompt_id(self, draft: PromptDraft) -> str:
        """The id that a prompt has or would have; nothing is changed."""
        key = self.settings.key_prefix + draft.key if draft.key else None
        if draft.distinct and key and self.keys.get(key, SEVERAL) != SEVERAL:
            return self.keys[key]
        if not draft.messages[-1].content.strip():
            raise Unfit("empty prompt")
        return prompt_id(draft.messages, key if draft.distinct else None)

    def _name(self, key: str, prompt: str) -> None:
        """Let a key name a prompt; one that names another already names none from now on."""
        self.keys[key] = prompt if self.keys.get(key, prompt) == prompt else SEVERAL

    def _find_prompt(self, name: str) -> str:
        found = self.keys.get(self.settings.key_prefix + name)
        if found == SEVERAL:
            raise Unfit(
                "the key names several prompts", f"{name!r}; map prompt to the prompt's words, or use --key-prefix"
            )
        found = found or (name if name in self.prompts else None)
        if found is None:
            by_words = prompt_id((Message(role="user", content=name),))
            found = by_words if by_words in self.prompts else None
        if found is None:
            raise Unfit("unknown prompt", f"{name[:80]!r} is no key, id or text of a prompt of this run")
        return found

    def _placed(self, draft: ResponseDraft, beside: ResponseDraft | None = None) -> tuple[str, int, str]:
        """The id of a response's prompt, its sample number and its id; nothing is changed.

        ``beside`` is taken before it, from the same row.

        Raises:
            Unfit: another text stands under this id.
        """
        prompt = draft.prompt
        prompt = self._prompt_id(prompt) if isinstance(prompt, PromptDraft) else self._find_prompt(prompt)
        said = _text_digest(draft.text)
        sample = draft.sample
        if sample is None:
            texts = self.texts.get((prompt, draft.policy), [])
            if beside and beside.policy == draft.policy and _text_digest(beside.text) not in texts:
                texts = [*texts, _text_digest(beside.text)]
            sample = texts.index(said) if said in texts else len(texts)
        name = response_id(prompt, draft.policy, draft.sampling, sample)
        if draft.text is not None and self.responses.get(name, _UNKNOWN) not in (_UNKNOWN, said):
            raise Unfit(
                "another response stands under this policy",
                f"{draft.policy!r} has answered this prompt otherwise; is this another policy? --set policy=NAME",
            )
        return prompt, sample, name

    def _response(self, draft: ResponseDraft) -> str:
        prompt, sample, name = self._placed(draft)
        if isinstance(draft.prompt, PromptDraft):
            self._prompt(draft.prompt)
        texts = self.texts.setdefault((prompt, draft.policy), [])
        if draft.sample is None and sample == len(texts):
            texts.append(_text_digest(draft.text))
        if name not in self.responses:
            response = Response(
                id=name,
                prompt_id=prompt,
                policy=draft.policy,
                text=draft.text,
                sample=sample,
                sampling=dict(draft.sampling),
                finish=draft.finish,
                keys=(self.settings.key_prefix + draft.key,) if draft.key else (),
            )
            self._index(response)
            self._write(Response, response)
            self._count_new("responses")
        if draft.note:
            self._note("policy named by the file, not by the row", draft.note)
        self._bring("responses", name)
        return name

    def _index(self, response: Response) -> None:
        self.responses[response.id] = _UNKNOWN if response.scrubbed else _text_digest(response.text)
        self.by_policy.setdefault((response.prompt_id, response.policy), []).append(response.id)
        self.prompt_of[response.id] = response.prompt_id
        for key in response.keys:
            known = self.response_keys.get(key, response.id)
            self.response_keys[key] = response.id if known == response.id else SEVERAL

    def _named(self, name: str) -> str | None:
        """The response with this key or id."""
        found = self.response_keys.get(self.settings.key_prefix + name)
        if found == SEVERAL:
            raise Unfit("the key names several responses", f"{name!r}; map prompt and policy, or use --key-prefix")
        return found or (name if name in self.responses else None)

    def _find_response(self, target: Target) -> str:
        if isinstance(target, ResponseDraft):
            return self._response(target)
        if target.key is not None:
            found = self._named(target.key)
            if found is None:
                raise Unfit("unknown response", f"{target.key[:80]!r} is no key or id of a response of this run")
            if target.prompt is not None and not self._answers(found, target.prompt):
                raise Unfit("the response answers another prompt", f"{target.key[:80]!r}, not {target.prompt[:80]!r}")
            return found
        if target.prompt is None or target.policy is None:
            raise Unfit("no response named", "a judgement needs a response, or a prompt and a policy")
        prompt = self._find_prompt(target.prompt)
        samples = self.by_policy.get((prompt, target.policy), [])
        if target.sample is not None:
            samples = [name for name in samples if name == response_id(prompt, target.policy, None, target.sample)]
        if not samples:
            found = self._named(target.policy) if target.sample is None else None
            if found is None or self.prompt_of[found] != prompt:
                raise Unfit("unknown response", f"no response of {target.policy!r} to this prompt")
            return found
        if len(samples) > 1:
            detail = f"{target.policy!r} has {len(samples)}; name one by its key or id, or map sample"
            raise Unfit("several responses fit", detail)
        return samples[0]

    def _answers(self, response: str, prompt: str) -> bool:
        """Whether a response answers the prompt of this name; a name that is not known says nothing against it."""
        try:
            return self._find_prompt(prompt) == self.prompt_of[response]
        except Unfit:
            return True

    def _rating(self, draft: RatingDraft) -> None:
        annotator, failure, reply = self._annotator(draft.annotator), draft.failure, draft.reply
        if failure is None and all(value in (None, "") for value in draft.scores.values()):
            raise Unfit("no score in the row")
        response = self._find_response(draft.response)
        scores = {name: self._score(self.principles[name], value) for name, value in draft.scores.items()}
        if failure is None and all(score is None for score in scores.values()):
            failure, reply = "no score within its scale", msgspec.json.encode(draft.scores, enc_hook=str).decode()
        if failure:
            self._note("judgement kept without a score", failure)
        question = ["rating", self.run.info.rubric, response, sorted(draft.scores)]
        brought = self._judgement(
            Rating(
                id=judgement_id(annotator, question, draft.sample),
                annotator=annotator,
                prompt_id=self.prompt_of[response],
                rubric=self.run.info.rubric,
                sample=draft.sample,
                failure=failure,
                reply=reply,
                response_id=response,
                scores=scores,
            )
        )
        if brought:
            self.report.imported["scores"] += sum(score is not None for score in scores.values())

    def _score(self, principle: Principle, value: Any) -> Score | None:
        score = _as_score(principle, value)
        if score is None:
            self._note("score missing" if value in (None, "") else "score not a number", f"{principle.id}: {value!r}")
        elif not principle.scale.holds(score):
            kept = self.settings.keep_out_of_range
            self._note(
                "score out of range, kept" if kept else "score out of range, left out",
                f"{principle.id}: {score:g}; expected {principle.scale}",
            )
            return score if kept else None
        return score

    def _comparison(self, draft: ComparisonDraft) -> None:
        annotator = self._annotator(draft.annotator)
        if draft.winner is None and draft.failure is None:
            raise Unfit("no winner")
        if draft.a == draft.b:
            raise Unfit("a response compared with itself")
        if isinstance(draft.a, ResponseDraft) and isinstance(draft.b, ResponseDraft):
            self._placed(draft.b, draft.a)
        a, b = self._find_response(draft.a), self._find_response(draft.b)
        if self.prompt_of[a] != self.prompt_of[b]:
            raise Unfit("the two responses answer different prompts")
        if a == b:
            raise Unfit("a response compared with itself")
        question = ["comparison", self.run.info.rubric, a, b, sorted(draft.principles)]
        self._judgement(
            Comparison(
                id=judgement_id(annotator, question, draft.sample),
                annotator=annotator,
                prompt_id=self.prompt_of[a],
                rubric=self.run.info.rubric,
                sample=draft.sample,
                failure=draft.failure,
                reply=draft.reply,
                a=a,
                b=b,
                winner=draft.winner,
                principles=dict(draft.principles),
                preference=draft.preference,
            )
        )

    def _annotator(self, name: str) -> str:
        if not is_annotator(name):
            raise Unfit("annotator is not llm:NAME or human:NAME", f"{name!r}; --set annotator=... gives all rows one")
        return name

    def _judgement(self, judgement: Rating | Comparison) -> bool:
        """Add a judgement; whether the file brings it for the first time."""
        known = self.judgements.get(judgement.id)
        if known is None:
            self.judgements[judgement.id] = _answer(judgement)
            self._write(Judgement, judgement)
            self._count_new("judgements")
        elif known != _answer(judgement):
            raise Unfit("answered differently before", f"{judgement.annotator} on the same question; the first is kept")
        return self._bring("judgements", judgement.id)

    def _write(self, record: Any, item: Response | Rating | Comparison) -> None:
        self.spools[record].file.write(msgspec.json.encode(item) + b"\n")

    def _bring(self, kind: str, name: str) -> bool:
        if name in self.seen:
            return False
        self.seen.add(name)
        self.report.imported[kind] += 1
        return True

    def _count_new(self, kind: str) -> None:
        self.report.new[kind] += 1

    def _reject(self, reason: str, detail: str) -> None:
        self.report.rejected[reason] += 1
        self.first_detail.setdefault(reason, detail)
        self._list(reason, detail, self.row.number, whole=True)

    def _note(self, reason: str, detail: str, line: int | None = None) -> None:
        self.report.notes[reason] += 1
        self._list(reason, detail, line or self.row.number, whole=False)

    def _list(self, reason: str, detail: str, line: int, *, whole: bool) -> None:
        entry = {"line": line, "reason": reason, "detail": detail, "rest_imported": not whole}
        if whole:
            entry["values"] = self.row.values
        self.rejected.write(msgspec.json.encode(entry, enc_hook=str) + b"\n")

    def commit(self) -> None:
        """Write what the file brought into the run: prompts, then responses, then judgements."""
        self.note_keys_of_several()
        if self.changed_prompts:
            self.run.replace(Prompt, self.prompts.values())
        for record, spool in self.spools.items():
            if spool.file.tell():
                self.run.append(record, spool.lines())

    def note_keys_of_several(self) -> None:
        """List the keys of this file that name several prompts now: where one of them had the key before, or the file
        gives it to a second. It is the same list when the file is imported again."""
        given = Counter(key for key, _ in self.given_keys)
        held = Counter(key for prompt in self.prompts.values() for key in prompt.keys if key in given)
        met: set[str] = set()
        for (key, _), line in self.given_keys.items():
            if held[key] > given[key] or key in met:
                detail = f"{key!r}; rows that refer to it by this key will not be imported"
                self._note("a key names several prompts", detail, line)
            met.add(key)


def broken(file: str, row: Row) -> InputError:
    """The error for a row that is not whole."""
    remedy = "Mend the row, or pass --skip-broken to leave such rows out; they are listed in rejects/."
    return InputError(f"{file}:{row.number}", row.broken or "", "a whole row", remedy)


def nothing_imported(report: ImportReport, details: Mapping[str, str], first_line: int, last_line: int) -> InputError:
    """The error for a file of which no row could be used: its commonest reason.

    Args:
        report: where the rows went.
        details: the first detail of each reason.
        first_line, last_line: of the file's rows.
    """
    reason, count = report.rejected.most_common(1)[0]
    detail = f" ({details[reason]})" if details[reason] else ""
    return InputError(
        f"{report.file}:{first_line}" + f"-{last_line}" * (report.rows > 1),
        f"no row to import: {reason}{detail} in {count:,} of {report.rows:,} rows, read as {report.read_as}",
        "rows that fit this run",
        "Check the file, the mapping (--map, --set, --preset), and that prompts and responses were imported first.",
    )


_UNKNOWN = -1
SEVERAL = "several"
"""Instead of an id: a key names several records, and so none."""


def _text_digest(text: str | None) -> int:
    return int(digest(text)[:15], 16)


def _answer(judgement: Judgement) -> int:
    """A digest of what was answered, without what was asked."""
    if isinstance(judgement, Rating):
        said: Any = judgement.scores
    elif isinstance(judgement, Comparison):
        said = (judgement.winner, judgement.principles, judgement.preference)
    else:
        said = judgement.best
    return int(digest(said, judgement.failure, judgement.reply)[:15], 16)


def _as_score(principle: Principle, value: Any) -> Score | None:
    """A cell as a score: a number, a text that is one, or the name of a level. None where it is none of these."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        levels = {
            level.casefold(): score
            for level, score in zip(principle.scale.levels, principle.scale.values(), strict=False)
        }
        if value.strip().casefold() in levels:
            return levels[value.strip().casefold()]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number
