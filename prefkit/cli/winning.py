"""``prefkit win-rate``: reads a run, rewards or AlpacaEval's annotations; shows win rates, or writes them as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

if TYPE_CHECKING:
    from prefkit.evaluation.length_control import LengthControlled, Method
    from prefkit.evaluation.outcomes import Outcomes
    from prefkit.evaluation.paired_scores import PairedScores
    from prefkit.evaluation.studies import Study
    from prefkit.evaluation.win_rates import WinRate
    from prefkit.run import Run

ALL = "all"


@click.command("win-rate")
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path, exists=True))
@click.option("--policy", help="Whose win rate.  [of two, the first]")
@click.option("--baseline", help="Over whom.  [of two, the other one]")
@click.option("--and", "other", metavar="POLICY", help="Another policy over the same baseline, and the difference.")
@click.option("--principle", metavar="ID|all", help="Who is better on a principle; all: on each.  [the whole]")
@click.option(
    "--judge", "judges", multiple=True, metavar="NAME", help="Count these; llm or human for all of a kind.  [all]"
)
@click.option("--rm", "by_rewards", is_flag=True, help="By the rewards in RUN/rewards.jsonl; --judge rm:NAME for one.")
@click.option(
    "--length-limit",
    "limits",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="CHARACTERS",
    help="The rate where both responses are no longer than this. May be repeated.",
)
@click.option("--discrete", is_flag=True, help="Who won, where a judge gave a probability.")
@click.option("--one-order", is_flag=True, help="Count what a model was asked in one order only.")
@click.option(
    "--length-control",
    "control",
    type=click.Choice(["simple", "alpaca", "style"]),
    help="Also the rate if both wrote as much: by the relative difference of lengths, by AlpacaEval's model, or by"
    " length, lists, headers and bold.",
)
@click.option(
    "--difficulty",
    metavar="estimated|none|FILE",
    default="estimated",
    show_default=True,
    help="--length-control alpaca: of prompts; from other policies over the same baseline, or from a CSV file.",
)
@click.option("--human-subset", is_flag=True, help="Correct the judges' rate by the people's on a part of the prompts.")
@click.option(
    "--study", is_flag=True, help="Also the scores of the two beside each other, with tests, as of a blind study."
)
@click.option("--plan", is_flag=True, help="How many prompts an interval of a width, or a test, would take.")
@click.option(
    "--reach", type=click.FloatRange(0.5, 45), default=5.0, show_default=True, help="--plan: points to either side."
)
@click.option(
    "--power",
    type=click.FloatRange(10, 99),
    default=80.0,
    show_default=True,
    help="--plan: to tell the rate from 50%, in %.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here, as JSON.")
def win_rate(
    source: Path,
    policy: str | None,
    baseline: str | None,
    other: str | None,
    principle: str | None,
    judges: tuple[str, ...],
    by_rewards: bool,
    limits: tuple[int, ...],
    discrete: bool,
    one_order: bool,
    control: str | None,
    difficulty: str,
    human_subset: bool,
    study: bool,
    plan: bool,
    reach: float,
    power: float,
    out: Path | None,
) -> None:
    """How often a policy is preferred to a baseline: by the judgements or rewards of RUN, or by a FILE of AlpacaEval's
    annotations or of rewards; 95% intervals by prompt.

    \b
        prefkit win-rate runs/first --policy tuned --baseline gpt-4
        prefkit win-rate runs/first --policy tuned --baseline gpt-4 --principle all --judge llm:ollama/llama3.2
        prefkit win-rate runs/first --policy tuned --baseline gpt-4 --human-subset --plan
        prefkit win-rate runs/first --policy gpt-4 --baseline chatgpt --judge human --study
        prefkit win-rate annotations.json --out rates.json
    """
    from prefkit.cli import win_tables as shows
    from prefkit.cli.figures import show
    from prefkit.errors import PrefkitError
    from prefkit.evaluation.correcting import corrected_rate
    from prefkit.evaluation.outcomes import balanced
    from prefkit.evaluation.win_rates import compare_policies, win_report

    if difficulty != "estimated" and control != "alpaca":
        raise click.UsageError("--difficulty goes with --length-control alpaca.")
    if policy and policy == baseline:
        raise PrefkitError(source, f"{policy!r} twice", "two policies", "A policy always ties with itself.")
    source_of = _Source(source, judges, discrete, by_rewards)
    asked = principle if principle != ALL else None
    whole = source_of.outcomes(asked, policy, baseline, other)
    policy, baseline = _two(whole, policy, baseline)
    if other in (policy, baseline):
        raise click.UsageError(f"--and {other}: name a third policy, to be compared with {policy}.")
    both = not one_order
    report = win_report(
        whole,
        policy,
        baseline,
        principle=asked,
        limits=sorted(set(limits)),
        both_orders=both,
        bootstrap=out is not None,
    )
    shown = list(shows.rendered(report, source))
    figures: dict[str, Any] = {"source": str(source), "report": report}
    if principle == ALL:
        rates, missing = source_of.by_principle(policy, baseline, both)
        shown += [shows.rates_table("by principle", rates), *missing, ""]
        figures["by_principle"] = rates
    if other:
        found = compare_policies(whole, policy, other, baseline, both_orders=both)
        shown += shows.difference(found, policy, other, baseline)
        figures["difference"] = {"other": other, "found": found}
    if control:
        method = cast("Method", control)
        controlled = source_of.length_controlled(asked, policy, baseline, method, difficulty, both_orders=both)
        shown += shows.controlled(controlled)
        figures["length_controlled"] = controlled
    if human_subset:
        corrected = corrected_rate(whole, policy, baseline, both_orders=both)
        shown += shows.corrected(corrected)
        figures["corrected"] = corrected
    if study:
        scores, found_studies = source_of.studies(policy, baseline)
        shown += shows.studied(scores, found_studies, policy, baseline)
        figures["studies"] = found_studies
    if plan:
        rows = balanced(whole.between(policy, baseline), both_orders=both)
        shown += shows.planned(rows, reach / 100, power / 100, figures)
    show(shown)
    if out:
        _write(out, figures)
        click.echo(f"{out}: all figures")


def _two(found: Outcomes, policy: str | None, baseline: str | None) -> tuple[str, str]:
    """The two policies: those that were named, or of two the other one."""
    from prefkit.errors import PrefkitError

    if policy and baseline:
        return policy, baseline
    if len(found.policies) != 2:
        names = ", ".join(found.policies)
        remedy = "Say whose win rate over whom: --policy A --baseline B."
        raise PrefkitError(found.source, f"{len(found.policies)} policies ({names})", "two of them", remedy)
    if not policy and not baseline:
        return found.policies[0], found.policies[1]
    named = policy or baseline or ""
    (rest,) = [name for name in found.policies if name != named][:1]
    return (named, rest) if policy else (rest, named)


class _Source:
    """Where outcomes come from."""

    def __init__(self, path: Path, judges: tuple[str, ...], discrete: bool, by_rewards: bool) -> None:
        self.path, self.judges, self.discrete = path, judges, discrete
        self._run: Run | None = None
        self._rewards: Path | None = None
        if path.is_dir():
            from prefkit.run import Run

            self._run = Run(path)
            self._rewards = path / "rewards.jsonl" if by_rewards else None
        elif path.name.endswith("rewards.jsonl"):
            self._rewards = path
        elif by_rewards:
            raise click.UsageError("--rm goes with a RUN, or a file of rewards.")

    def outcomes(
        self, principle: str | None, policy: str | None, baseline: str | None, other: str | None = None
    ) -> Outcomes:
        """The outcomes of the policies that are asked about, or of all where none is."""
        from prefkit.evaluation import outcomes

        named = [name for name in (policy, baseline, other) if name]
        if self._rewards is not None:
            models = [name.removeprefix("rm:") for name in self.judges] or None
            wanted = named if policy and baseline else None
            found = outcomes.reward_outcomes(self._rewards, self._run, principle, models=models, policies=wanted)
        elif self._run is not None:
            wanted = named if policy and baseline else None
            found = outcomes.run_outcomes(
                self._run, principle, judges=self.judges or None, policies=wanted, discrete=self.discrete
            )
        else:
            found = _of_file(self.path, principle, self.judges, self.discrete)
        return found

    def length_controlled(
        self,
        principle: str | None,
        policy: str,
        baseline: str,
        method: Method,
        difficulty: str,
        *,
        both_orders: bool,
    ) -> LengthControlled:
        """The rate with answers alike: by models where there are any, else by people."""
        from prefkit.evaluation.length_control import length_controlled
        from prefkit.evaluation.outcomes import balanced
        from prefkit.evaluation.styles import Texts
        from prefkit.evaluation.win_rates import of_first_kind

        estimated = method == "alpaca" and difficulty == "estimated"
        named = (None, None) if estimated else (policy, baseline)  # difficulty is estimated from everybody's
        rows = of_first_kind(balanced(self.outcomes(principle, *named), both_orders=both_orders))
        if method == "style":
            styles = Texts(self._texts()).of(rows)
            return length_controlled(rows, policy, baseline, method=method, styles=styles)
        of_prompts: dict[str, float] | Literal["estimated"] | None = "estimated"
        if not estimated:
            given = method == "alpaca" and difficulty != "none"
            of_prompts = self._difficulties(Path(difficulty), rows) if given else None
        return length_controlled(rows, policy, baseline, method=method, difficulty=of_prompts)

    def _texts(self) -> list[tuple[str, str, str | None]]:
        """Prompt, policy and text of each answer."""
        from prefkit.errors import PrefkitError
        from prefkit.evaluation.alpaca_files import read_annotations

        if self._run is not None:
            return [(one.prompt_id, one.policy, one.text) for one in self._run.responses()]
        if self._rewards is not None:
            remedy = "Give the run: prefkit win-rate RUN --rm."
            raise PrefkitError(self._rewards, "rewards without texts", "the run that they are of", remedy)
        found = read_annotations([self.path])
        rows = found.outcomes
        return [
            (rows.prompts[prompt], rows.policies[policy], text)
            for policies, texts in ((rows.first, found.texts_first), (rows.second, found.texts_second))
            for prompt, policy, text in zip(rows.prompt.tolist(), policies.tolist(), texts, strict=True)
        ]

    def _difficulties(self, path: Path, rows: Outcomes) -> dict[str, float]:
        """By prompt: a file has them by the prompt's words (its last message), or by its id."""
        from prefkit.evaluation.alpaca_files import read_difficulties

        words = {name: name for name in rows.prompts}
        if self._run is not None:
            words |= {prompt.id: prompt.messages[-1].content for prompt in self._run.prompts()}
        found = read_difficulties(path, list(words.values()))
        by_name = {name: found.get(words[name], found.get(name)) for name in rows.prompts}
        return {name: value for name, value in by_name.items() if value is not None}

    def studies(self, policy: str, baseline: str) -> tuple[PairedScores, tuple[Study, ...]]:
        """The scores of the two, by question."""
        from prefkit.evaluation.paired_scores import run_studies

        if self._run is None or self._rewards is not None:
            raise click.UsageError("--study goes with a RUN whose answers were rated.")
        return run_studies(self._run, policy, baseline, judges=self.judges or None)

    def by_principle(self, policy: str, baseline: str, both_orders: bool) -> tuple[dict[str, WinRate], list[str]]:
        """The rate on each principle, and in words which have none."""
        from prefkit.errors import PrefkitError
        from prefkit.evaluation.outcomes import reward_heads
        from prefkit.evaluation.win_rates import win_report

        if self._run is None and self._rewards is None:
            raise click.UsageError("--principle goes with a RUN or a file of rewards: AlpacaEval's have none.")
        names: Sequence[str] = ()
        if self._rewards is not None:
            names = reward_heads(self._rewards)
        elif self._run is not None:
            names = self._run.rubric.principle_ids
        rates: dict[str, WinRate] = {}
        missing = []
        for name in names:
            try:
                report = win_report(self.outcomes(name, policy, baseline), policy, baseline, both_orders=both_orders)
            except PrefkitError as error:
                missing.append(f"  {name}: {error.found}")
                continue
            several = len(report.overall) > 1
            rates |= {f"{name}, {who}" if several else name: rate for who, rate in report.overall.items()}
        return rates, missing


def _of_file(path: Path, principle: str | None, judges: tuple[str, ...], discrete: bool) -> Outcomes:
    """What AlpacaEval's annotations say."""
    import numpy as np

    from prefkit.evaluation.alpaca_files import read_annotations
    from prefkit.evaluation.outcomes import known, rounded

    if principle:
        raise click.UsageError("--principle goes with a RUN or a file of rewards: AlpacaEval's have none.")
    found = read_annotations([path]).outcomes
    if judges:
        codes = [known(name, found.judges, "judge", path) for name in judges]
        found = found[np.isin(found.judge, codes)]
    return rounded(found) if discrete else found


def _write(path: Path, figures: dict[str, Any]) -> None:
    import msgspec

    from prefkit.durable import explained_disk_errors, replacing

    with explained_disk_errors(path), replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
