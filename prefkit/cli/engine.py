"""Where the work of a command is done: in this process, or on a cluster of Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = [
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Work in this process, or on a cluster of Ray: docs/cluster.md",
    ),
    click.option(
        "--ray-address",
        envvar="RAY_ADDRESS",
        metavar="ADDRESS",
        help="--engine ray: a cluster to join, host:port or auto.  [default: one on this machine, while it works]",
    ),
]


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--engine`` and ``--ray-address``, as ``engine`` and ``ray_address``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
