"""``prefkit annotate``: the page that people judge on, from the server to their answers."""

from __future__ import annotations

import click

from prefkit.cli import LazyGroup

COMMANDS = {
    "serve": ("annotate_server", "Start Argilla on this machine, and install it first where need be."),
    "stop": ("annotate_server", "Stop that server."),
    "status": ("annotate_server", "Whether it runs, who answers, how far they are."),
    "backup": ("annotate_server", "Copy its database while it runs."),
    "restore": ("annotate_server", "Put such a copy back."),
    "users": ("annotate_server", "Add and list annotators."),
    "push": ("annotate_push", "Put questions of a run onto the page, blinded."),
    "pull": ("annotate_pull", "Bring the answers into the run."),
    "export": ("annotate_files", "The same questions as Label Studio tasks or a table."),
}


@click.group(cls=LazyGroup, commands=COMMANDS)
def annotate() -> None:
    """People judge on a page of their own: start it, push questions, pull answers.

    \b
        prefkit annotate serve --annotators anna,ben
        prefkit annotate push runs/first --pairs 100 --overlap 2
        prefkit annotate pull runs/first
        prefkit agree runs/first
    """
