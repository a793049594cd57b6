"""``prefkit demo``: the real commands on the sample that ships with prefkit, each printed before it runs."""

from __future__ import annotations

import click


@click.command()
@click.argument("folder", default="prefkit-demo")
def demo(folder: str) -> None:
    """The whole way on a small sample, in FOLDER.

    The sample (48 client speeches, four responses each, ratings, comparisons) was written for prefkit; nobody in it
    is real.

    \b
        prefkit demo
        prefkit demo /tmp/look
        prefkit demo s3://bucket/look
    """
    from prefkit.demo import demo_steps, lay_out_sample

    for step in demo_steps(folder, lay_out_sample(folder)):
        if step.why:
            click.secho(f"\n# {step.why}", dim=True)
        click.secho(f"$ prefkit {' '.join(step.arguments)}", bold=True)
        if step.done:
            click.echo(step.done)
        else:
            _run(step.arguments)
    click.secho("\n# The same from here on with your own data: prefkit new RUN --rubric NAME", dim=True)


def _run(arguments: list[str]) -> None:
    from prefkit.cli import run_command
    from prefkit.cli.elsewhere import Elsewhere

    run_command(Elsewhere(arguments))
