"""What a run would take: calls, tokens, cost, GPU hours and disk, each with a range. Nothing is sent.

Reads   the run, its models.yaml, a table of throughputs
Writes  plan.json of the run, if asked to

Calls are those of the stages' own questions, so their number is exact but for questions that repair an unreadable
reply. Tokens are those that answers in the run took, by prompt; else those that a tokenizer counts; else three to four
bytes a token. Every line says which. Ranges are 95% over prompts; where nothing is measured they go from the least
that is possible to the most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from prefkit.durable import replacing
from prefkit.errors import RecordError, RunError
from prefkit.generating.settings import GenerateSettings
from prefkit.generating.stage import GenerateQuestions
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.stage import JudgeQuestions
from prefkit.models.asking import Questions, known_models
from prefkit.models.chat import Model
from prefkit.models.entries import ModelEntry
from prefkit.models.held import Held
from prefkit.planning.asked import Asked, Counting, asked, line_of
from prefkit.planning.disk import Artefact, Judged, built, on_disk
from prefkit.planning.lengths import measured, tokenizer_of
from prefkit.planning.lines import Line, Lines
from prefkit.planning.responses import Responses
from prefkit.planning.rounds import Round, Wanted, generating_rounds, judging_rounds
from prefkit.planning.stand_ins import StandIns, with_stand_ins
from prefkit.planning.throughput import read_throughput
from prefkit.records import Response
from prefkit.run import Run
from prefkit.spending import Spent, spending
from prefkit.training.settings import Preset

FILE = "plan.json"
Bars = Callable[[str, int | None, str], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What is planned.

    Args:
        wanted: models and how they are asked, where it is not as the run has it.
        prompts: how many prompts that count; None for those that the run has.
        tokenizer: whose tokens are counted where no answer says what it took.
        throughput: the table, where it is not ``throughput.yaml``.
        preset: of the training.
        batch: by the vendors' batch protocol, at half the price.
    """

    wanted: Wanted = field(default_factory=Wanted)
    prompts: int | None = None
    tokenizer: str | None = None
    throughput: Path | None = None
    preset: Preset = "paper"
    batch: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run would take for ``prompts`` prompts, of which it has ``there``; ``used`` is what it took before, by who
    and what."""

    prompts: int
    there: int
    lines: list[Line]
    disk: list[Artefact]
    notes: list[str]
    used: dict[str, Spent]


def plan(run: Run, settings: PlanSettings, bars: Bars = lambda title, total, unit: lambda more: None) -> Plan:
    """Count what there is to ask, and estimate what it takes.

    Raises:
        PrefkitError: there is nothing to plan, or a model is not known.
    """
    return _Planner(run, settings, bars).plan()


class _Planner:
    """``_first`` prompts of the run are gone through; ``_more`` come on top, asked like them."""

    def __init__(self, run: Run, settings: PlanSettings, bars: Bars) -> None:
        self._run = run
        self._settings = settings
        self._bars = bars
        self._notes: list[str] = []
        self._there = sum(prompt.excluded is None for prompt in run.prompts())
        if not self._there:
            found, remedy = "no prompts that are not excluded", f"prefkit import prompts {run.path} FILE"
            raise RunError(run.path, found, "prompts to plan for", remedy)
        self._prompts = settings.prompts or self._there
        self._first = min(self._prompts, self._there)
        self._more = float(self._prompts - self._first)
        self._measured = measured(run, bars("Reading answers", None, "MB"))
        self._tokenizer = tokenizer_of(settings.tokenizer) if settings.tokenizer else None
        speeds = read_throughput(run.path, settings.throughput)
        self._lines = Lines(self._measured, speeds, batch=settings.batch, tokenizer=settings.tokenizer)

    def plan(self) -> Plan:
        """Each stage in its order."""
        run, wanted = self._run, self._settings.wanted
        generating, judging = generating_rounds(run, wanted), judging_rounds(run, wanted)
        if not generating and not judging:
            remedy = "Name them: --judge MODEL, --policy MODEL. Or ask a sample first: prefkit judge RUN --prompts 20."
            raise RunError(run.path, "no model that was asked anything", "models to plan for", remedy)
        lines, responses = self._generating(generating)
        judged: list[Judged] = []
        with ExitStack() as stack:
            if judging and responses.expected and responses.known:
                run = stack.enter_context(with_stand_ins(run, responses.stand_ins))
            for one in judging:
                lines += self._judging(one, run, responses, judged)
        pairs = built(self._run)
        scale = self._prompts / self._there
        if responses.known:
            lines += self._lines.reward_models(self._run, responses, pairs, scale, self._settings.preset)
        disk = on_disk(self._run, responses, judged, pairs, scale)
        used = {f"{who}: {what}": spent for (who, what), spent in spending(self._run).items()}
        return Plan(self._prompts, self._there, lines, disk, self._notes, used)

    def _generating(self, rounds: Sequence[Round[GenerateSettings]]) -> tuple[list[Line], Responses]:
        held = Held.of(self._run.path / GenerateQuestions.file)
        lines: list[Line] = []
        tasks: list[tuple[GenerateQuestions, list[Model]]] = []
        expected = 0.0
        for one in rounds:
            settings = replace(one.settings, prompts=self._first)
            questions = GenerateQuestions(self._run, one.dealt or one.models, settings)
            entries = known_models(self._run, one.models)
            tasks.append((questions, [entry.as_model() for entry in entries]))
            for entry in entries:
                counts = self._asked(questions, entry, held)
                lines.append(self._lines.generate(entry, counts))
                expected += counts.questions
        policies = {name for one in rounds for name in one.models}
        stand_ins = StandIns(tasks, held, self._measured.texts)
        return lines, Responses(self._measured, expected, policies, self._prompts / self._there, stand_ins)

    def _judging(
        self, one: Round[JudgeSettings], run: Run, responses: Responses, judged: list[Judged]
    ) -> Iterator[Line]:
        """The lines of a round; ``judged`` gets what it adds to judgements.jsonl."""
        if not run.file(Response) or (responses.expected and not responses.known):
            sample = "First generate a few: prefkit generate RUN --policy MODEL --prompts 20."
            self._notes.append(f"No response says how long those are that judges are to read. {sample}")
            return
        questions = JudgeQuestions(run, replace(one.settings, prompts=self._first))
        if questions.nearest:
            questions.nearest.take_longest()
            self._notes.append("Judges' questions are counted with the longest contrast examples that they may show.")
        held = Held.of(self._run.path / JudgeQuestions.file)
        for entry in known_models(self._run, one.models):
            counts = self._asked(questions, entry, held)
            doubt = responses.doubt(counts, one.settings, self._prompts)
            stage = questions.title + (" by principle" if one.settings.per_principle else "")
            yield self._lines.judge(stage, entry, counts, doubt)
            task = next(iter(questions.tasks(entry.as_model(), Held())), None)
            judged.append(Judged(counts, line_of(task) if task else 0))

    def _asked(self, questions: Questions, entry: ModelEntry, held: Held) -> Asked:
        model = entry.as_model()
        answers = self._measured.answers.get((questions.file, entry.name), {})
        bar = self._bars(f"Counting for {entry.name}", questions.total(model), "questions")
        counting = Counting(held, answers, self._first, self._more, self._tokenizer)
        return asked(questions, model, counting, bar)


def save(run: Run, found: Plan) -> Path:
    """Keep a plan in the run, to be put beside what is used from now on.

    Raises:
        RunError: another process writes to the run.
    """
    path = run.path / FILE
    with run.writing("plan"), replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


def read(run: Run) -> Plan:
    """The plan that was kept.

    Raises:
        RunError: there is none.
        RecordError: it is not one.
    """
    path = run.path / FILE
    if not path.exists():
        remedy = f"Keep one before you begin: prefkit plan {run.path} --save"
        raise RunError(run.path, f"no {FILE}", "a plan to compare with", remedy)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        remedy = "prefkit wrote this file; plan again with --save."
        raise RecordError(path.name, str(error), "a plan", remedy) from None
