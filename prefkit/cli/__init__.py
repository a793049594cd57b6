"""The command line: arguments in, one library call, a few lines out.

A command's module is imported when the command is called, and heavy packages inside its function, so that ``prefkit
--help`` answers at once. What the user can mend is printed bare with exit code 1; wrong options are click's, exit
code 2; a traceback is a bug.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from prefkit import __version__

if TYPE_CHECKING:
    from prefkit.cli.elsewhere import Elsewhere

COMMANDS = {
    "new": ("runs", "Make a run folder for a rubric."),
    "status": ("runs", "What a run holds, what is missing, what comes next."),
    "convert": ("runs", "Keep a run's records as JSONL, or as Parquet in parts."),
    "rubric": ("rubrics", "List, show, check, start and change rubrics."),
    "import": ("imports", "Bring prompts, responses and judgements into a run."),
    "scrub": ("cleaning", "Replace identifying text by placeholders."),
    "screen": ("cleaning", "Mark prompts for length, language, duplicates and risk."),
    "models": ("models", "Models: what a name means, what is missing, what it can do."),
    "generate": ("generating", "Have models answer the prompts."),
    "judge": ("judging", "Ask judge models to rate, compare or choose responses."),
    "audit": ("audit", "Whether judges follow order, length or family, and what they leave out."),
    "validate-judge": ("validating", "Whether judges agree with people, and exit code 1 where not enough."),
    "annotate": ("annotating", "People: the Argilla page, what they are shown, what they answered."),
    "agree": ("agreeing", "Whether people agree with each other, and judges with people."),
    "reparse": ("judging", "Read judges' stored replies again; nothing is asked."),
    "plan": ("planning", "What it would take, with a range, before anything is spent."),
    "spending": ("runs", "What the answers took: calls, tokens, cost."),
    "build-pairs": ("pairs", "Turn judgements into preference pairs and a dataset."),
    "pairs": ("pairs", "Read the pairs of a run."),
    "train-rm": ("training", "Train a reward model on the pairs."),
    "train-policy": ("policies", "Train a policy on the pairs."),
    "iterate": ("iterating", "Train a policy on its own answers, round by round."),
    "score": ("scoring", "Give responses rewards; the best of several."),
    "serve-rm": ("scoring", "Serve a reward model over HTTP."),
    "eval-rm": ("evaluating", "How good reward models are, beside the baselines."),
    "leaderboard": ("leading", "Rank many policies, with intervals and the ranks each may have."),
    "win-rate": ("winning", "How often a policy is preferred to another, and how sure that is."),
    "report": ("reporting", "A run on one page, with what it does not show."),
    "export": ("exporting", "Write a policy for others: safetensors, GGUF, Ollama."),
    "chat": ("chatting", "Talk to a policy, or to two side by side, and vote."),
    "bench": ("benching", "What policies know: multiple-choice questions, before and after training."),
    "demo": ("demo", "The whole way on a small sample, each command shown."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' one-line help, and imports a command when it is called.

    Args:
        commands: name -> (module of ``prefkit.cli``, one line of help).
    """

    def __init__(self, *args: Any, commands: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of the data."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        module = importlib.import_module(f"prefkit.cli.{self._lazy[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_").replace("import", "import_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in self._lazy.items()])


@click.command(
    cls=LazyGroup, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="prefkit")
def cli() -> None:
    """Professional principles to preference data, preference data to better models.

    A rubric says what better means. Each command reads the run folder, adds one kind of record, and can be stopped
    and run again.

    \b
        prefkit demo                                   see the whole way on a sample
        prefkit new runs/first --rubric psychocounsel
        prefkit import prompts runs/first questions.csv
        prefkit build-pairs runs/first
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; what the user can mend becomes a message and exit code 1. Without arguments it is the
    program itself."""
    from prefkit.cli.elsewhere import Elsewhere
    from prefkit.errors import PrefkitError
    from prefkit.garbage import search_rarely

    if arguments is None:
        search_rarely()
    runs = Elsewhere(sys.argv[1:] if arguments is None else arguments)
    try:
        return run_command(runs)
    except PrefkitError as error:
        click.echo(runs.named(f"Error: {error}"), err=True)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. The same command goes on from here.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
    sys.exit(1)


def run_command(runs: Elsewhere) -> Any:
    """Run a command, on runs wherever they are; its errors come as they are."""
    with runs.brought_here() as arguments:
        return cli.main(arguments, prog_name="prefkit", standalone_mode=False)
