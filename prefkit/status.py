"""What a run holds, what is missing, and what comes next.

Reads   all of a run's files, once each
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import read_lines
from prefkit.errors import RecordError
from prefkit.records import UNANSWERED, Choice, Comparison, Judgement, Prompt, Rating, Response
from prefkit.run import Run

KINDS: dict[type, str] = {Rating: "ratings", Comparison: "comparisons", Choice: "choices"}
JUDGEMENTS = (
    *KINDS.values(),
    "annotators",
    "drafts and discarded",
    "judgements unreadable",
    "judgements under another rubric",
)
"""What is told of judgements."""


@dataclass(frozen=True)
class Status:
    """The state of a run in words and numbers."""

    rubric: str
    counts: dict[str, int]
    lines: list[str]
    missing: list[str]
    next: str
    stages: dict[str, Any] = field(default_factory=dict)


def run_status(run: Run) -> Status:
    """Count what is there and say what comes next.

    Raises:
        RecordError: a line of the run is not a record.
    """
    counts: Counter[str] = Counter()
    lines: list[str] = []
    missing: list[str] = []
    prompts = {prompt.id: prompt for prompt in run.prompts()}
    counts["prompts"] = len(prompts)
    counts["prompts excluded"] = sum(prompt.excluded is not None for prompt in prompts.values())
    counts["prompts scrubbed"] = sum(prompt.scrubbed for prompt in prompts.values())
    lines.append(_line(run, Prompt, counts, "prompts", ("prompts excluded", "prompts scrubbed")))
    policies: Counter[str] = Counter()
    answered: set[str] = set()
    responses: dict[str, bool] = {}
    for response in run.responses():
        policies[response.policy] += 1
        answered.add(response.prompt_id)
        responses[response.id] = False
        counts["responses without text"] += response.text is None
        counts["responses marked unfit"] += bool(response.marks)
    counts["responses"] = len(responses)
    counts["policies"] = len(policies)
    lines.append(
        _line(run, Response, counts, "responses", ("policies", "responses without text", "responses marked unfit"))
    )
    _count_judgements(run, counts, responses)
    lines.append(_line(run, Judgement, counts, "judgements", JUDGEMENTS))
    if prompts and responses:
        _miss(missing, "prompts without a response", len(prompts.keys() - answered))
    if counts["ratings"]:
        _miss(missing, "responses without a rating", sum(not rated for rated in responses.values()))
    lines += _on_pages(run)
    built = run.info.stages.get("build-pairs")
    if built and (run.path / "pairs.parquet").exists():
        counts["pairs"] = sum(built["kept"].values())
        kept = ", ".join(f"{count:,} {split}" for split, count in built["kept"].items())
        lines.append(f"pairs.parquet     {counts['pairs']:,} pairs ({kept}; {built['settings']['strategy']})")
    lines += _trained(run)
    if missing:
        lines.append("missing           " + "; ".join(missing))
    rubric = f"{run.rubric.id} version {run.rubric.version} ({run.info.rubric})"
    return Status(rubric, dict(+counts), lines, missing, _next(run, counts), run.info.stages)


def _count_judgements(run: Run, counts: Counter[str], rated: dict[str, bool]) -> None:
    """Count judgements by what they are, and note in ``rated`` which responses have a rating."""
    annotators: set[str] = set()
    for judgement in run.judgements():
        annotators.add(judgement.annotator)
        counts[KINDS[type(judgement)]] += 1
        counts["judgements"] += 1
        counts["drafts and discarded"] += judgement.failure in UNANSWERED
        counts["judgements unreadable"] += judgement.failure is not None and judgement.failure not in UNANSWERED
        counts["judgements under another rubric"] += judgement.rubric != run.info.rubric
        if isinstance(judgement, Rating):
            rated[judgement.response_id] = True
    counts["annotators"] = len(annotators)


class _OnPage(msgspec.Struct):
    """As much of an item as is counted."""

    deck: str


def _on_pages(run: Run) -> list[str]:
    """What people are asked: nothing, or a line."""
    path = run.path / "annotation" / "items.jsonl"
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(_OnPage)
    decks: Counter[str] = Counter()
    for number, line in read_lines(path):
        try:
            decks[decoder.decode(line).deck] += 1
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "prefkit wrote this file; take it from a backup."
            raise RecordError(f"annotation/items.jsonl:{number}", str(error), "an item", remedy) from None
    return [f"annotation/       {decks.total():,} items in {len(decks)} deck{'s' * (len(decks) != 1)}"]


class _Rate(msgspec.Struct):
    value: float


class _Health(msgspec.Struct):
    flagged: bool


class _Look(msgspec.Struct):
    """As much of a look as is told."""

    step: int
    held_out: dict[str, float]
    health: _Health
    win_rate: _Rate | None = None

    @property
    def state(self) -> str:
        """What was seen."""
        parts = [f"held-out accuracy {self.held_out['accuracy']:.1%}"] if "accuracy" in self.held_out else []
        parts += [f"preferred to its start {self.win_rate.value:.0%}"] if self.win_rate else []
        parts += ["degenerate text"] if self.health.flagged else []
        return ", ".join(parts)


class _Training(msgspec.Struct):
    """As much of a reward model's or a policy's ``training.json`` as is told."""

    held_out: list[dict[str, str]] = []
    looks: list[_Look] = []
    kept_step: int = 0

    @property
    def state(self) -> str:
        """What is known of it."""
        seen = next((look.state for look in self.looks if look.step == self.kept_step), "")
        return seen or (f"held-out accuracy {self.held_out[0]['accuracy']}" if self.held_out else "nothing held out")


class _Finished(msgspec.Struct):
    """As much of an iteration's ``finished.json`` as is told."""

    rounds: int
    best_round: int

    @property
    def state(self) -> str:
        """What came of it."""
        best = f"the best is round {self.best_round}" if self.best_round else "none better than the start"
        return f"{self.rounds} round{'s' * (self.rounds != 1)}, {best}"


def _trained(run: Run) -> list[str]:
    """The run's reward models, policies and iterations, a line each: finished with what is known of it, or begun."""
    lines = []
    for kind, done, begun, record in (
        ("reward-models", "training.json", "begun.json", _Training),
        ("policies", "training.json", "begun.json", _Training),
        ("iterations", "finished.json", "iterate.json", _Finished),
    ):
        for folder in sorted(run.path.glob(f"{kind}/*/")):
            if (folder / done).exists():
                state = _read(folder / done, record, f"{kind}/{folder.name}/{done}").state
            elif (folder / "reward.json").exists():
                state = "from elsewhere"
            elif (folder / begun).exists():
                state = "cut: the same command goes on"
            else:
                continue
            lines.append(f"{kind + '/':<17} {folder.name}: {state}")
    return lines


def _read(path: Path, record: type[_Training | _Finished], name: str) -> _Training | _Finished:
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(name, str(error), "facts", "prefkit wrote this file; train again with --overwrite.") from None


def _line(run: Run, record: Any, counts: Counter[str], name: str, parts: tuple[str, ...]) -> str:
    path = run.file(record)
    if path is None:
        return f"{name + '.jsonl':<17} -"
    details = ", ".join(f"{counts[part]:,} {part.removeprefix(name + ' ')}" for part in parts if counts[part])
    return f"{path.name:<17} {counts[name]:,}" + (f" ({details})" if details else "")


def _miss(missing: list[str], words: str, count: int) -> None:
    if count:
        missing.append(f"{count:,} {words}")


def _next(run: Run, counts: Counter[str]) -> str:
    if not counts["prompts"]:
        return f"prefkit import prompts {run.path} FILE"
    if not counts["responses"]:
        return f"prefkit import responses {run.path} FILE, or prefkit generate {run.path} --policy MODEL"
    if not counts["judgements"]:
        return f"prefkit judge {run.path} --judge MODEL, or prefkit import judgements {run.path} FILE"
    if not counts["prompts scrubbed"]:
        return f"prefkit scrub {run.path}, if the texts may name people; then prefkit build-pairs {run.path}"
    if not counts["pairs"]:
        return f"prefkit build-pairs {run.path}"
    if not any(run.path.glob("reward-models/*/training.json")):
        return f"prefkit pairs {run.path} --sample 5; then prefkit train-rm {run.path}"
    if not any(run.path.glob("policies/*/training.json")):
        return f"prefkit eval-rm {run.path} --rm NAME; then prefkit train-policy {run.path} --rm NAME"
    return f"prefkit chat {run.path}:NAME, or prefkit export {run.path} --policy NAME; prefkit report {run.path}"
