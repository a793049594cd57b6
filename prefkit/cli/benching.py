"""``prefkit bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from prefkit.policies.knowledge import Knowledge, Taken
    from prefkit.policies.suites import Suite


@click.command()
@click.argument("source", metavar="RUN|MODEL")
@click.option("--suite", required=True, metavar="FILE", help="Questions with options, answer and category.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="A policy of RUN, a folder, a hub id or smollm2. May be repeated: the others are compared with the first.",
)
@click.option(
    "--by",
    type=click.Choice(["likelihood", "letter", "answer"]),
    default="likelihood",
    show_default=True,
    help="The likeliest option, the likeliest letter, or the letter in what it writes.",
)
@click.option(
    "--normalise",
    type=click.Choice(["none", "tokens", "characters"]),
    default="none",
    show_default=True,
    help="What an option's log-likelihood is divided by.",
)
@click.option("--category", metavar="COLUMN", help="The column of categories.  [category, competency, subject, topic]")
@click.option("--context", multiple=True, metavar="COLUMN", help="Put its words before the question. May be repeated.")
@click.option("--split", help="Of a folder or a dataset.")
@click.option("--index-from", type=click.IntRange(0, 1), help="Where answers are indices.  [as the file shows]")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many questions, drawn by the seed.")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [the fastest there is]")
@click.option("--rounds", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="JSON.  [RUN/knowledge-SUITE.json]")
def bench(
    source: str,
    suite: str,
    policies: tuple[str, ...],
    by: str,
    normalise: str,
    category: str | None,
    context: tuple[str, ...],
    split: str | None,
    index_from: int | None,
    limit: int | None,
    device: str | None,
    rounds: int,
    seed: int,
    out: Path | None,
) -> None:
    """What policies still know: accuracy on multiple-choice questions, with 95% intervals by question.

    \b
        prefkit bench runs/first --suite counselling.csv --policy smollm2 --policy dpo
        prefkit bench smollm2 --suite mmlu.jsonl --by letter
        prefkit bench runs/first --suite exam.csv --policy dpo --context Case --category Competency
    """
    from prefkit.cli.progress import Bars
    from prefkit.policies.opening import open_policy
    from prefkit.policies.suites import read_suite

    run = Path(source) if (Path(source) / "run.json").exists() else None
    places = _places(source, run, policies)
    asked = read_suite(suite, category=category, context=context, split=split, index_from=index_from)
    if limit is not None and limit < len(asked.questions):
        asked = _drawn(asked, limit, seed)
    click.echo(_read(asked))
    if normalise != "none" and by != "likelihood":
        raise click.UsageError("--normalise divides the likelihood of options: it needs --by likelihood")

    from prefkit.policies.knowledge import measure, take

    taken = []
    with Bars() as bars:
        for name, place in places.items():
            model, tokenizer = open_policy(place, device)
            bar = bars.open(name, len(asked.questions), "questions")
            options: Any = {"by": by, "normalised": normalise, "progress": bar}
            taken.append(take(model, tokenizer, asked.questions, name, **options))
            del model
    found = measure(asked, taken, rounds=rounds, seed=seed)
    _show(found, asked)
    path = out or (run / f"knowledge-{Path(suite).stem}.json" if run else None)
    if path is not None:
        settings = {"suite": str(suite), "by": by, "normalise": normalise, "rounds": rounds, "seed": seed}
        _write(path, settings, asked, taken, found)
        click.echo(f"{path}: all figures, and what each policy took")


def _places(source: str, run: Path | None, policies: Sequence[str]) -> dict[str, str]:
    """Where each policy is, by its name."""
    from prefkit.policies.opening import POLICIES, policy_folder

    if run is None:
        named = (source, *policies)
        return {(Path(one).name if Path(one).is_dir() else one) if named.count(one) == 1 else one: one for one in named}
    if not policies:
        policies = sorted(one.name for one in (run / POLICIES).glob("*") if (one / "config.json").exists())
    if not policies:
        policy_folder(run, "yet")
    return {name: _in_run(run, name) for name in policies}


def _in_run(run: Path, name: str) -> str:
    """The folder of a policy of the run, or what else the name stands for."""
    from prefkit.models.entries import SMOLLM2
    from prefkit.policies.opening import POLICIES, policy_folder

    if (run / POLICIES / name).is_dir():
        return str(run / POLICIES / name)
    return name if name == SMOLLM2 or "/" in name or Path(name).is_dir() else str(policy_folder(run, name))


def _drawn(suite: Suite, limit: int, seed: int) -> Suite:
    """Some of the questions, in their order."""
    import random
    from dataclasses import replace

    places = sorted(random.Random(seed).sample(range(len(suite.questions)), limit))
    return replace(suite, questions=tuple(suite.questions[place] for place in places))


def _read(suite: Suite) -> str:
    categories = len({one.category for one in suite.questions} - {""})
    said = f"{suite.name}: {len(suite.questions):,} questions"
    said += f" in {categories} categories" if categories else ""
    said += f"; answers are {suite.answers_are}"
    lines = [f"  {count:,} rows left out: {reason}" for reason, count in sorted(suite.left_out.items())]
    return "\n".join([said, *lines])


def _show(found: Knowledge, suite: Suite) -> None:
    from prefkit.cli.figures import show

    show([_table(found, suite)])
    for name, count in found.unread.items():
        if count:
            click.echo(f"  {name}: {count:,} answers name no option, which counts as wrong")


def _table(found: Knowledge, suite: Suite) -> Table:
    from prefkit.cli.figures import both, table

    names, others = list(found.accuracy), list(found.difference)
    made = table("accuracy", "", "n", "chance", *names, *(f"{name} - {names[0]}" for name in others))
    categories = [name for name in found.chance if name]
    for name in [*categories, ""]:
        figures = [both("accuracy", found.accuracy[one][name]) for one in names]
        changes = [_points(found.difference[one][name]) for one in others]
        number = f"{found.accuracy[names[0]][name].n:,}"
        made.add_row(name or "all", number, f"{found.chance[name]:.1%}", *figures, *changes)
    return made


def _points(figure: Any) -> str:
    """A difference of shares in percentage points, with its interval."""
    said = f"{100 * figure.value:+.1f}"
    return said if figure.low is None else f"{said} [{100 * figure.low:+.1f}, {100 * figure.high:+.1f}]"


def _write(path: Path, settings: dict[str, Any], suite: Suite, taken: Sequence[Taken], found: Knowledge) -> None:
    import msgspec

    from prefkit.durable import make_folders, replacing

    answers = [
        {
            "row": one.number,
            "category": one.category,
            "answer": one.answer,
            "taken": {each.name: int(each.options[place]) for each in taken},
            **({"replies": {each.name: each.replies[place] for each in taken}} if taken[0].replies else {}),
            **({"scores": {each.name: each.scores[place] for each in taken}} if taken[0].scores else {}),
        }
        for place, one in enumerate(suite.questions)
    ]
    whole = {"settings": settings, "left_out": suite.left_out, "figures": found, "questions": answers}
    make_folders(path.parent)
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(whole), indent=1))
