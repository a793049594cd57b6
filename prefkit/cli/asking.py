"""What ``generate`` and ``judge`` share: options, the live line, the report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from prefkit.cluster.asking import ClusterReport
    from prefkit.cluster.cluster import Cluster
    from prefkit.models.asking import AskReport, AskSettings, Questions, Watch
    from prefkit.models.batch_desk import BatchState
    from prefkit.models.engine import Tally
    from prefkit.run import Run

_OPTIONS = [
    click.option(
        "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Calls at a time, at most."
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=120.0,
        show_default=True,
        help="Seconds for one call.",
    ),
    click.option("--max-retries", type=click.IntRange(min=0), default=8, show_default=True, help="For each question."),
    click.option(
        "--patience",
        type=click.FloatRange(min=0),
        default=300.0,
        show_default=True,
        help="Seconds without any answer until a model is given up.",
    ),
    click.option(
        "--time-limit", type=click.FloatRange(min=0, min_open=True), help="Seconds after which nothing more is sent."
    ),
    click.option(
        "--max-cost",
        type=click.FloatRange(min=0),
        help="Money for the whole run, earlier commands included; needs prices.",
    ),
    click.option("--max-tokens", type=click.IntRange(min=0), help="The same in tokens, of prompts and replies."),
    click.option("--max-calls", type=click.IntRange(min=0), help="The same in calls."),
    click.option("--estimate", is_flag=True, help="Send nothing; say what it would take."),
    click.option(
        "--batch/--no-batch", help="By the vendor's batch protocol: half the price, up to a day. docs/batches.md"
    ),
    click.option("--no-wait", is_flag=True, help="--batch: send, and collect with the same command later."),
    click.option(
        "--batch-rows",
        type=click.IntRange(1, 50_000),
        default=50_000,
        show_default=True,
        help="--batch: questions in one batch, at most.",
    ),
    click.option("--allow-unscrubbed", is_flag=True, help="Send texts that were not scrubbed out of this network."),
]


def asking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ask_settings(models: tuple[str, ...], options: dict[str, Any]) -> AskSettings:
    """Take the shared options out of ``options``."""
    from prefkit.models.asking import AskSettings, Batching
    from prefkit.models.engine import Limits

    limits = Limits(
        concurrency=options.pop("concurrency"),
        timeout=options.pop("timeout"),
        retries=options.pop("max_retries"),
        patience=options.pop("patience"),
        time_limit=options.pop("time_limit"),
    )
    bounds = {name: options.pop(name) for name in ("max_cost", "max_tokens", "max_calls", "allow_unscrubbed")}
    batching = Batching(wait=not options.pop("no_wait"), rows=options.pop("batch_rows"))
    return AskSettings(models=models, limits=limits, batch=batching if options.pop("batch") else None, **bounds)


def ask_and_report(run: Run, questions: Questions, settings: AskSettings, *, err: bool = False) -> None:
    """Ask, show how it goes, say how it went; exit code 1 where something has no answer yet.

    ``err`` sends all of it to the error stream, for commands whose output is something else.
    """
    from prefkit.models.asking import ask_run
    from prefkit.models.batches import batch_run, refuse_under_way

    with Live(questions.noun) as live:
        if settings.batch:
            report: AskReport = batch_run(run, questions, settings, live.show_batches, live.say)
        else:
            refuse_under_way(run, questions, settings)
            report = ask_run(run, questions, settings, live.show)
    _say(run, questions.stage, questions.file, questions.noun, settings, report, err=err)


def ask_on_cluster_and_report(
    run: Run,
    stage: str,
    noun: str,
    settings: AskSettings,
    address: str | None,
    asked: Callable[[Cluster, Watch], ClusterReport],
) -> None:
    """The same on a cluster of Ray, which is joined, or made on this machine and ended.

    Args:
        run: the run.
        stage, noun: what is done, and what its records are called.
        settings: how it is asked.
        address: of the cluster.
        asked: asks, when it is given the cluster.
    """
    from prefkit.cluster.cluster import joined

    with joined(address) as cluster, Live(noun) as live:
        report = asked(cluster, live.show)
    if report.excluded:
        click.echo(f"passed over: {report.excluded:,} excluded prompts")
    if report.without_text:
        click.echo(f"passed over: {report.without_text:,} responses without a text")
    try:
        _say(run, stage, f"{noun}.parquet", noun, settings, report)
    finally:
        for mark, count in report.marked.most_common():
            click.echo(f"  marked: {count:,} {mark}")


def refuse_estimate(estimate: bool, engine: str) -> None:
    """Let nobody count all questions on a cluster."""
    if estimate and engine == "ray":
        raise click.UsageError("--estimate goes with --engine local; `prefkit plan` reckons from a sample.")


def _say(
    run: Run, stage: str, file: str, noun: str, settings: AskSettings, report: AskReport, *, err: bool = False
) -> None:
    from prefkit.models.asking import FAILURES

    tally = report.tally
    click.echo(f"{file}: {tally.answered:,} new {noun}, {tally.from_before:,} from before", err=err)
    click.echo(f"  {_spent(tally)}", err=err)
    for reason, count in tally.reasons.most_common(5):
        click.echo(f"  failed calls: {count:,} {reason}", err=err)
    for model, notes in report.notes.items():
        for note in notes:
            click.echo(f"  {model} {note}", err=err)
    under_way = _under_way(report)
    if report.missing <= under_way and not (under_way and settings.batch and settings.batch.wait):
        return
    for model, reason in tally.stopped.items():
        click.echo(f"  {model}: not all asked: {reason}", err=True)
    for failure in report.failures:
        click.echo(f"  failed: {failure.topic}: {failure.reason} ({failure.attempts} attempts)", err=True)
    if tally.failed > len(report.failures):
        click.echo(f"  ... all in {run.path / FAILURES / stage}.jsonl", err=True)
    waits = f", {under_way:,} in batches" if under_way else ""
    words = f"{report.missing:,} of {report.total:,} have no answer ({tally.failed:,} failed{waits})"
    click.echo(f"Error: {words}. The same command asks these again.", err=True)
    sys.exit(1)


def _under_way(report: AskReport) -> int:
    """Say which batches go on by themselves; how many questions are in them."""
    from prefkit.models.batches import BatchReport

    if not isinstance(report, BatchReport) or not report.under_way:
        return 0
    names = ", ".join(report.batches[:5]) + (", ..." if len(report.batches) > 5 else "")
    click.echo(f"  {report.under_way:,} questions in batches that go on by themselves: {names or 'being made'}")
    click.echo("  Run the same command again to collect their answers; it may be tomorrow.")
    return report.under_way


def _spent(tally: Tally) -> str:
    parts = [f"{tally.calls:,} calls in {tally.seconds:,.1f} s"]
    if tally.retried:
        parts[0] += f" ({tally.retried:,} made again)"
    cached = f" ({tally.cached_tokens:,} cached)" if tally.cached_tokens else ""
    parts.append(f"{tally.prompt_tokens:,} prompt tokens{cached}, {tally.completion_tokens:,} reply tokens")
    if tally.cost:
        parts.append(f"cost {tally.cost:,.4f}")
    return "; ".join(parts)


def print_estimate(run: Run, questions: Questions, settings: AskSettings) -> None:
    """Say what asking would take, for each model."""
    from prefkit.cli.progress import Bars
    from prefkit.models.estimating import estimate

    with Bars() as bars:
        found = estimate(run, questions, settings, bars.open("Counting", None, "questions"))
    for one in found:
        low, high = one.tokens
        cost = "no price known" if one.cost is None else f"cost {one.cost[0]:,.4f} to {one.cost[1]:,.4f}"
        before = f" ({one.from_before:,} answered before)" if one.from_before else ""
        click.echo(f"{one.model}: {one.calls:,} calls{before}, {low:,} to {high:,} tokens, {cost}")
    click.echo("Nothing was sent. Prompts are counted at 3 to 4 bytes a token.")


class Live:
    """One line on a terminal that is renewed a few times a second; elsewhere a plain line a minute."""

    def __init__(self, noun: str) -> None:
        """Nothing is shown yet."""
        self._noun = noun
        self._since = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._due = self._since + (1.0 if self._terminal else 60.0)
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, tally: Tally, total: int) -> None:
        """Show a tally, if it is time to."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + (0.25 if self._terminal else 60.0)
        self._write(progress_line(tally, total, now - self._since, self._noun))

    def show_batches(self, states: Sequence[BatchState]) -> None:
        """Show how far batches are, at each look at them."""
        now = time.monotonic()
        if not self._terminal and now < self._due:
            return
        self._due = now + 60.0
        going = [state for state in states if state.status not in ("completed", "expired", "cancelled", "failed")]
        parts = [
            f"{state.id} {state.status} {state.done:,}/{state.total:,}, {state.failed:,} failed" for state in going
        ]
        self._write(f"{len(states) - len(going)}/{len(states)} batches ended · " + " · ".join(parts))

    def say(self, line: str) -> None:
        """Say a line that stays."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        click.echo(line)

    def _write(self, line: str) -> None:
        if self._terminal:
            import shutil

            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[K{line[: width - 1]}")
            self._shown = True
        else:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def progress_line(tally: Tally, total: int, seconds: float, noun: str) -> str:
    """How it goes, in a line: done, rate, in flight, tokens, cost, failures, time left."""
    done = tally.from_before + tally.answered
    rate = tally.answered / seconds if seconds > 0 else 0.0
    parts = [f"{done:,}/{total:,} {noun}", f"{rate:,.1f}/s", f"{tally.in_flight:,} in flight"]
    tokens = tally.prompt_tokens + tally.completion_tokens
    if tokens:
        parts.append(f"{tokens / 1e6:,.2f}M tokens" if tokens >= 1e6 else f"{tokens / 1e3:,.1f}k tokens")
    if tally.cost:
        parts.append(f"cost {tally.cost:,.2f}")
    if tally.retried or tally.failed:
        parts.append(f"{tally.retried:,} retried, {tally.failed:,} failed")
    left = total - done - tally.failed
    if rate > 0 and left > 0:
        parts.append(f"{_duration(left / rate)} left")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
