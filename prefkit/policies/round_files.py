"""The folder of rounds: held by one process, the same rounds or none.

Writes  RUN/iterations/NAME/
    iterate.json     settings and what was begun with, written first
    finished.json    why the rounds ended, and which is the best
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prefkit import __version__
from prefkit.durable import PART, clear_parts, replacing
from prefkit.errors import RunError
from prefkit.policies.round_evaluation import Baseline, Evaluation
from prefkit.policies.round_settings import RoundSettings
from prefkit.records import Record
from prefkit.training.begun import held, identity
from prefkit.training.settings import decisive

SETTINGS, EVALUATION, FINISHED = "iterate.json", "evaluation.json", "finished.json"
NOT_DECISIVE = ("rounds",)
"""What may differ when the rounds go on: there may be more of them."""


class Finished(Record, frozen=True, kw_only=True):
    """Why the rounds ended, and which is the best; round 0 is the start. ``policy`` is a folder beside this file, or
    the start's name."""

    rounds: int
    stopped: tuple[str, ...] = ()
    best_round: int
    policy: str


Kept = TypeVar("Kept", Baseline, Evaluation, Finished)


@contextmanager
def claimed(folder: Path, overwrite: bool) -> Iterator[None]:
    """Hold the folder for one process, and clear away what a killed one left unfinished.

    Raises:
        RunError: another process holds it; it holds anything else; it cannot be written.
    """
    with held(folder, overwrite) as there:
        clear_parts(folder)
        strangers = [name for name in there if not name.endswith(PART)]
        if strangers and SETTINGS not in there:
            remedy = "Give another --name, or --overwrite to remove them."
            raise RunError(folder, f"other files ({strangers[0]})", "rounds or nothing", remedy)
        yield


def begin(folder: Path, settings: RoundSettings, judges: Sequence[str], prompts: str) -> None:
    """Note what the rounds are; where there are some from before, they must be the same.

    Args:
        folder: of the rounds.
        settings: how they go.
        judges: what identifies the reward model, and the second one.
        prompts: what identifies those of the run.

    Raises:
        RunError: they are others.
    """
    chosen = {name: value for name, value in asdict(settings).items() if name != "training"}
    mine: dict[str, Any] = {
        "settings": {**decisive(settings.training), **chosen},
        "base": identity(settings.training.base),
        "reward model": judges[0],
        "second reward model": judges[1] if len(judges) > 1 else None,
        "prompts of the run": prompts,
    }
    path = folder / SETTINGS
    if path.exists():
        theirs = msgspec.json.decode(path.read_bytes())
        if differing := _differing(theirs, msgspec.to_builtins(mine)):
            remedy = "Give the same command to go on, another --name for other rounds, or --overwrite to begin anew."
            raise RunError(folder, f"rounds with another {differing}", "the same ones", remedy)
    write(path, {"prefkit": __version__, **mine})


def _differing(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    before, now = theirs.get("settings", {}), mine["settings"]
    names = [
        f"{name} ({before.get(name)}, now {value})"
        for name, value in now.items()
        if name not in NOT_DECISIVE and before.get(name) != value
    ]
    named_base = any(name.startswith("base ") for name in names)
    names += [
        f"{name} under the same name" if name == "base" else name
        for name in mine
        if name != "settings" and theirs.get(name) != mine[name] and not (name == "base" and named_base)
    ]
    return ", ".join(names)


def write(path: Path, found: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def read(path: Path, record: type[Kept]) -> Kept | None:
    """A file that is written last; None where it is not there yet."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        remedy = "Remove it, and the same command writes it anew."
        raise RunError(path, str(error), "what prefkit wrote there", remedy) from None
