"""``prefkit rubric``: list, show, check, new, use."""

from __future__ import annotations

from pathlib import Path

import click

from prefkit.cli.runs import RUN


@click.group()
def rubric() -> None:
    """Rubrics: what better means. Found by name or by path.

    \b
        prefkit rubric show psychocounsel
    """


@rubric.command("list")
def list_() -> None:
    """The rubrics that ship with prefkit.

    \b
        prefkit rubric list
    """
    from prefkit.rubric_files import load_rubric, shipped_rubrics

    for file in shipped_rubrics():
        found = load_rubric(file.path)
        scales = ", ".join(dict.fromkeys(str(principle.scale) for principle in found.principles))
        click.echo(f"{file.name:<18} {len(found.principles):>2} principles, {scales}, per {found.unit}: {found.title}")


@rubric.command()
@click.argument("name")
@click.option("--yaml", "as_yaml", is_flag=True, help="The file itself, to copy and change.")
def show(name: str, as_yaml: bool) -> None:
    """The rubric NAME in the words that a judge or a person is shown.

    \b
        prefkit rubric show psychocounsel
        prefkit rubric show psychocounsel --yaml > mine.yaml
    """
    from prefkit.rubric_files import find_rubric, load_rubric

    found = load_rubric(name)
    click.echo(find_rubric(name).read_text(encoding="utf-8") if as_yaml else found.as_text(), nl=False)


@rubric.command()
@click.argument("name")
def check(name: str) -> None:
    """Validate the rubric NAME, and say what is worth a second look.

    \b
        prefkit rubric check mine.yaml
    """
    from prefkit.rubric_files import find_rubric, load_rubric, rubric_warnings

    found = load_rubric(name)
    for warning in rubric_warnings(found):
        click.echo(f"worth a look: {warning}")
    click.echo(f"{find_rubric(name)}: {len(found.principles)} principles, content hash {found.hash}")


@rubric.command()
@click.argument("name")
def new(name: str) -> None:
    """Start a rubric of your own in the file NAME.yaml.

    \b
        prefkit rubric new supervision
    """
    from prefkit.rubric_files import start_rubric

    path = start_rubric(name)
    click.echo(f"{path}: edit it, then prefkit rubric check {path}")


@rubric.command()
@RUN
@click.argument("name")
def use(run: Path, name: str) -> None:
    """Change the rubric of RUN to NAME, and say which ratings stay comparable.

    \b
        prefkit rubric use runs/first mine.yaml
    """
    from prefkit.rubric_files import load_rubric
    from prefkit.run import Run

    changed = Run(run)
    before = changed.info.rubric
    with changed.writing("rubric use"):
        changed.use_rubric(load_rubric(name))
    kept = changed.comparable(before)
    asked_again = [name for name in changed.rubric.principle_ids if name not in kept]
    click.echo(f"{run}: {changed.rubric.id} version {changed.rubric.version} ({changed.info.rubric})")
    click.echo(f"Ratings that stay comparable: {', '.join(sorted(kept)) or 'none'}")
    click.echo(f"To be asked again: {', '.join(asked_again) or 'none'}")
