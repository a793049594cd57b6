"""Scrub and screen a whole run.

Reads   prompts.jsonl, responses.jsonl
Writes  the same, whole, ids unchanged; in run.json, counts of what is scrubbed by now, whenever that was

``scrub_run`` replaces identifying text; a prompt and its responses are one document, so that a person has one
placeholder in all of them. What was scrubbed once is not looked at again; what was found is counted and nowhere
stored. ``screen_run`` marks prompts and sets or lifts their exclusion; it deletes nothing and can be run again with
other settings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import msgspec

from prefkit.errors import RunError
from prefkit.prompts.screening import ScreenSettings, Verdict, screen
from prefkit.prompts.scrubbing import Finding, Known, Scrubber
from prefkit.records import Message, Prompt, Response, prompt_text
from prefkit.run import Run

_PLACEHOLDER = re.compile(r"\[([A-Z]+)_\d+\]")


@dataclass
class ScrubReport:
    """What was looked at and what was replaced."""

    texts: Counter[str] = field(default_factory=Counter)
    """``prompts`` and ``responses`` looked at, and those in which something was replaced."""
    found: Counter[str] = field(default_factory=Counter)
    """Replacements by kind."""
    examples: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, text as found): for the eyes of whoever runs it; never written to a file."""


def scrub_run(run: Run, *, dry_run: bool = False, progress: Callable[[int], None] = lambda done: None) -> ScrubReport:
    """Replace identifying text in all prompts and responses that were not scrubbed before.

    Raises:
        RunError: the run is in use, has no prompts, or keeps its records as Parquet.
    """
    with run.writing("scrub"), run.at_once():
        _need_jsonl(run)
        scrubbing = Scrubbing(Scrubber(), progress)
        prompts = [scrubbing.prompt(prompt) for prompt in run.prompts()]
        if not prompts:
            raise nothing_to_scrub(run)
        if dry_run:
            for response in run.responses():
                scrubbing.response(response)
            return scrubbing.report
        # Prompts last: if killed in between, a response to an unscrubbed prompt is still scrubbed with it.
        if run.file(Response):
            run.replace(Response, map(scrubbing.response, run.responses()))
        run.replace(Prompt, prompts)
        note_scrubbed(run, scrubbing.scrubber, scrubbing.texts, scrubbing.placeholders)
    return scrubbing.report


def nothing_to_scrub(run: Run) -> RunError:
    """The error for a run without a prompt."""
    return RunError(run.path, "no prompts", "something to scrub", f"prefkit import prompts {run.path} FILE")


def note_scrubbed(run: Run, scrubber: Scrubber, texts: Counter[str], placeholders: Counter[str]) -> None:
    """Write to ``run.json`` how many texts are scrubbed by now, and what is in them."""
    counts = {"texts": dict(texts), "placeholders": dict(sorted(placeholders.items()))}
    run.record_stage("scrub", version=scrubber.version, **counts)


class Scrubbing:
    """Scrubs prompts and then their responses, in the order of their files, and counts.

    Args:
        scrubber: the rules.
        progress: told how many more texts were looked at.
    """

    def __init__(self, scrubber: Scrubber, progress: Callable[[int], None] = lambda more: None) -> None:
        self.scrubber = scrubber
        self.report = ScrubReport()
        self.progress = progress
        self.documents: dict[str, Known] = {}
        self.texts: Counter[str] = Counter()
        self.placeholders: Counter[str] = Counter()

    def prompt(self, prompt: Prompt) -> Prompt:
        """A prompt without what identifies a person."""
        known = _placeholders(prompt_text(prompt.messages)) if prompt.scrubbed else Known()
        messages = prompt.messages
        if not prompt.scrubbed:
            messages = tuple(
                Message(role=message.role, content=self._scrub(message.content, known)) for message in messages
            )
            self._count("prompts", changed=messages != prompt.messages)
        if known:
            self.documents[prompt.id] = known
        self._tally("prompts", prompt_text(messages))
        return msgspec.structs.replace(prompt, messages=messages, scrubbed=True)

    def response(self, response: Response) -> Response:
        """A response without it; its prompt, and those before it to the same prompt, come first."""
        if response.text is None:
            return response
        if response.scrubbed:
            if taken := _placeholders(response.text):
                self.documents.setdefault(response.prompt_id, Known()).update(taken)
            self._tally("responses", response.text)
            return response
        known = self.documents.setdefault(response.prompt_id, Known())
        text = self._scrub(response.text, known)
        if not known:
            del self.documents[response.prompt_id]
        self._count("responses", changed=text != response.text)
        self._tally("responses", text)
        return with_scrubbed(response, text)

    def _scrub(self, text: str, known: Known) -> str:
        scrubbed, findings = self.scrubber.scrub(text, known)
        self.report.found.update(finding.kind for finding in findings)
        self.report.examples.update(_example(finding) for finding in findings)
        return scrubbed

    def _count(self, name: str, *, changed: bool) -> None:
        self.report.texts[name] += 1
        self.report.texts[f"{name} changed"] += changed
        self.progress(1)

    def _tally(self, name: str, text: str) -> None:
        """Count a scrubbed text and the placeholders in it."""
        kinds = [match[1] for match in _PLACEHOLDER.finditer(text)]
        self.texts[name] += 1
        self.texts[f"{name} with placeholders"] += bool(kinds)
        self.placeholders.update(kinds)


def with_scrubbed(response: Response, text: str | None) -> Response:
    """A response with what scrubbing made of its text; None where it made nothing else of it."""
    if response.text is None or response.scrubbed:
        return response
    return msgspec.structs.replace(response, text=response.text if text is None else text, scrubbed=True)


def _example(finding: Finding) -> tuple[str, str]:
    return finding.kind, finding.text


def _placeholders(text: str) -> Known:
    """What an earlier scrubbing left in a text, so that its numbers are not given to somebody else."""
    return {(match[1], match[0]): match[0] for match in _PLACEHOLDER.finditer(text)}


@dataclass
class ScreenReport:
    """How many prompts were kept, excluded and marked, and why."""

    prompts: int = 0
    kept: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    marked: Counter[str] = field(default_factory=Counter)

    def count(self, verdict: Verdict) -> None:
        """Count what was said of one more prompt."""
        self.prompts += 1
        self.kept += verdict.excluded is None
        self.excluded.update([_reason(verdict.excluded)] if verdict.excluded else [])
        self.marked.update(verdict.marks)

    def add(self, other: ScreenReport) -> None:
        """Count what was counted of further prompts."""
        self.prompts += other.prompts
        self.kept += other.kept
        self.excluded += other.excluded
        self.marked += other.marked

    def note(self, run: Run, settings: ScreenSettings) -> None:
        """Write it to ``run.json``."""
        counts = {"kept": self.kept, "excluded": dict(self.excluded), "marked": dict(self.marked)}
        run.record_stage("screen", settings=asdict(settings), **counts)


def screen_run(run: Run, settings: ScreenSettings) -> ScreenReport:
    """Mark the run's prompts anew: excluded with a reason, or kept, with marks such as ``risk:self-harm``.

    Raises:
        RunError: the run is in use, has no prompts, or keeps its records as Parquet.
    """
    with run.writing("screen"), run.at_once():
        _need_jsonl(run)
        prompts = list(run.prompts())
        if not prompts:
            raise nothing_to_screen(run)
        verdicts = screen([prompt.id for prompt in prompts], list(map(client_words, prompts)), settings)
        report = ScreenReport()
        for verdict in verdicts:
            report.count(verdict)
        run.replace(Prompt, map(marked, prompts, verdicts))
        report.note(run, settings)
    return report


def nothing_to_screen(run: Run) -> RunError:
    """The error for a run without a prompt."""
    return RunError(run.path, "no prompts", "something to screen", f"prefkit import prompts {run.path} FILE")


def client_words(prompt: Prompt) -> str:
    """What the client said: a whole speech, or the client's turns of a dialogue."""
    return "\n\n".join(message.content for message in prompt.messages if message.role == "user")


def marked(prompt: Prompt, verdict: Verdict) -> Prompt:
    """The prompt with what the screen says of it."""
    return msgspec.structs.replace(prompt, excluded=verdict.excluded, marks=verdict.marks)


def _reason(words: str) -> str:
    """An exclusion without its details: ``too short: 41 characters`` is ``too short``."""
    return re.split(r":| of [0-9a-f]{20}", words)[0]


def _need_jsonl(run: Run) -> None:
    for record in (Prompt, Response):
        path = run.file(record)
        if path is not None and path.suffix == ".parquet":
            remedy = "Write it as JSONL; only JSONL is changed in place."
            raise RunError(path, "Parquet", "a JSONL file", remedy)
