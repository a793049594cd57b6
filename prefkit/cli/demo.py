"""``prefkit demo``: the real commands on the sample that ships with prefkit, each printed before it runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="prefkit-demo")
def demo(folder: Path) -> None:
    """The whole way on a small sample, in FOLDER.

    The sample (48 client speeches, four responses each, ratings, comparisons) was written for prefkit; nobody in it
    is real.

    \b
        prefkit demo
        prefkit demo /tmp/look
    """
    from prefkit.demo import demo_steps, lay_out_sample

    lay_out_sample(folder)
    for step in demo_steps(folder):
        if step.why:
            click.secho(f"\n# {step.why}", dim=True)
        click.secho(f"$ prefkit {' '.join(step.arguments)}", bold=True)
        if step.done:
            click.echo(step.done)
        else:
            _run(step.arguments)
    click.secho("\n# The same from here on with your own data: prefkit new RUN --rubric NAME", dim=True)


def _run(arguments: list[str]) -> None:
    from prefkit.cli import cli

    cli.main(arguments, prog_name="prefkit", standalone_mode=False)
