"""The figures of a run, gathered: what the page draws and report.json holds.

Reads   a run folder; agreement as plain values, where it was measured
Gives   Report
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from prefkit import __version__
from prefkit.evaluation.report.agreement import Agreement, agreement_of
from prefkit.evaluation.report.examples import Examples, examples_of
from prefkit.evaluation.report.facts import Facts, facts_of, judgement_bytes
from prefkit.evaluation.report.files import Audit, Iteration, Policy, RewardModel, read_written
from prefkit.evaluation.report.flow import Flow, flow_of
from prefkit.evaluation.report.limits import Limits, limits_of
from prefkit.evaluation.report.paired import Beside, beside
from prefkit.evaluation.report.rates import Absent, Board, Rates, Wins, rates_of, typed
from prefkit.evaluation.win_rates import WinRate
from prefkit.run import Run

OpenBar = Callable[[str, int | None, str], Callable[[int], None]]


def _silent(title: str, total: int | None, unit: str) -> Callable[[int], None]:
    return lambda done: None


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What is reported.

    Args:
        policy, baseline: whose win rate over whom stands first; None for the first two of the board.
        reward_model: whose rewards say who is preferred; None for the judgements.
        examples: how many answers are shown side by side; 0 for figures only.
        allow_unscrubbed: show texts that were not scrubbed, in a run where others were.
        rounds, seed: of the board's bootstrap, and the draw of examples.
    """

    policy: str | None = None
    baseline: str | None = None
    reward_model: str | None = None
    examples: int = 20
    allow_unscrubbed: bool = False
    rounds: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that is on the page. A section that has nothing to show is ``Absent``, with the reason.

    ``scrubbed`` says whether texts were scrubbed: ``all``, ``some`` or ``none``. ``beside`` is another run.
    """

    run: str
    prefkit: str
    settings: ReportSettings
    facts: Facts
    wins: Wins | Absent
    board: Board | Absent
    longer: WinRate | None
    flow: Flow
    agreement: Agreement | Absent
    audit: Audit | Absent
    reward_models: list[RewardModel]
    policies: list[Policy]
    iterations: list[Iteration]
    examples: Examples
    limits: Limits
    beside: Beside | None = None
    rates: Rates | None = field(default=None, repr=False, compare=False)

    @property
    def typed(self) -> str:
        """The run as it is typed in a command."""
        return shlex.quote(self.run)

    @property
    def scrubbed(self) -> str:
        """Whether texts were scrubbed."""
        raw = (self.facts.prompts - self.facts.scrubbed) + self.facts.unscrubbed_responses
        return "all" if not raw else "some" if self.facts.scrubbed else "none"

    def as_json(self) -> bytes:
        """The figures and the examples."""
        plain: dict[str, Any] = msgspec.to_builtins(replace(self, rates=None, beside=None))
        del plain["rates"]
        plain["scrubbed"] = self.scrubbed
        plain["beside"] = None if self.beside is None else msgspec.to_builtins(self.beside)
        return msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n"


def gather(
    run: Run,
    settings: ReportSettings | None = None,
    *,
    agreement: Any = None,
    open_bar: OpenBar = _silent,
) -> Report:
    """Gather the figures of a run.

    Args:
        run: the run.
        settings: what is reported.
        agreement: the report of ``prefkit.agreement`` in plain values; None where it was not measured.
        open_bar: opens a progress bar.

    Raises:
        PrefkitError: no such policy or reward model.
        RecordError: a file of the run is not what prefkit writes.
    """
    settings = settings or ReportSettings()
    facts = facts_of(run, open_bar("Reading the run", judgement_bytes(run), "MB"))
    written = read_written(run.path)
    rates = rates_of(
        run,
        policy=settings.policy,
        baseline=settings.baseline,
        reward_model=settings.reward_model,
        rounds=settings.rounds,
        seed=settings.seed,
        open_bar=open_bar,
    )
    agreed = agreement_of(agreement) if agreement is not None else None
    focus = (rates.wins.policy, rates.wins.baseline) if isinstance(rates.wins, Wins) else None
    examples = examples_of(
        run,
        rates.outcomes,
        count=settings.examples,
        focus=focus,
        scrubbed_only=facts.scrubbed > 0 and not settings.allow_unscrubbed,
        seed=settings.seed,
    )
    return Report(
        run=str(run.path),
        prefkit=__version__,
        settings=settings,
        facts=facts,
        wins=rates.wins,
        board=rates.board,
        longer=rates.longer,
        flow=flow_of(run, facts),
        agreement=_agreement(run, facts, agreed),
        audit=written.audit or _no_audit(run, facts),
        reward_models=written.reward_models,
        policies=written.policies,
        iterations=written.iterations,
        examples=examples,
        limits=limits_of(typed(run), facts, rates, agreed, written),
        rates=rates,
    )


def compare(report: Report, other: Report) -> Report:
    """The report with another run's figures beside its own."""
    if report.rates is None or other.rates is None:
        raise ValueError("both reports must have been gathered in this process")
    return replace(report, beside=beside(report, other))


def _agreement(run: Run, facts: Facts, found: Agreement | None) -> Agreement | Absent:
    if found is not None and found.measured:
        return found
    if not facts.annotators:
        return Absent(absent="There are no judgements.", command=f"prefkit judge {typed(run)} --judge MODEL")
    if len(facts.annotators) == 1:
        (name,) = facts.annotators
        return Absent(
            absent=f"{name} is the only annotator, so there is nobody to agree with.",
            command=f"prefkit judge {typed(run)} --judge ANOTHER",
        )
    if found is None:
        return Absent(absent="Agreement was not measured.", command=f"prefkit agree {typed(run)}")
    return Absent(
        absent="No two annotators judged the same answers.",
        command=f"prefkit annotate push {typed(run)} --annotators NAME,NAME --overlap 2",
    )


def _no_audit(run: Run, facts: Facts) -> Absent:
    if facts.annotators and not facts.models:
        return Absent(absent="Only people judged; the audit is about model judges.")
    return Absent(absent="The judges were not audited.", command=f"prefkit audit {typed(run)}")
