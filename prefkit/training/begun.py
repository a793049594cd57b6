"""The folder of a training that has begun: one process at a time, and the same training or none.

Writes  FOLDER/begun.json   what is trained on what, as far as the weights at the end depend on it

A training that was cut goes on from its last checkpoint, and only with what it began with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import explained_disk_errors, make_folders, remove, replacing
from prefkit.errors import RunError
from prefkit.training.machine import SCRATCH
from prefkit.training.settings import CommonSettings, decisive

BEGUN, CHECKPOINTS, DONE, LOCK = "begun.json", "checkpoints", "training.json", ".lock"


@contextmanager
def held(folder: Path, overwrite: bool) -> Iterator[list[str]]:
    """Hold a folder for one process; with what else is in it, by name.

    Args:
        folder: made where it is not there.
        overwrite: throw away what is in it.

    Raises:
        RunError: another process holds it; it cannot be written.
    """
    from filelock import FileLock, Timeout

    with explained_disk_errors(folder):
        make_folders(folder)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remedy = "Wait until it ends, or give this one another --name."
            raise RunError(folder, "another process at work", "one at a time", remedy) from None
        try:
            there = [one for one in folder.iterdir() if one.name != LOCK]
            if overwrite:
                for one in there:
                    remove(one)
            yield [] if overwrite else sorted(one.name for one in there)
        finally:
            lock.release()
            (folder / LOCK).unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path, overwrite: bool) -> Iterator[None]:
    """Hold the folder of a model for one process.

    Args:
        folder: made where it is not there.
        overwrite: throw away what is in it.

    Raises:
        RunError: another process holds it; it holds a finished model, or anything but a training; it cannot be written.
    """
    with held(folder, overwrite) as there:
        if DONE in there:
            remedy = "Give another --name, or --overwrite to train it again."
            raise RunError(folder, "a finished model", "a new name", remedy)
        others = [name for name in there if name != SCRATCH]
        if others and BEGUN not in there:
            remedy = "Give another --name or --out, or --overwrite to remove them."
            raise RunError(folder, f"other files ({others[0]})", "an empty folder or a new name", remedy)
        yield


def begin(folder: Path, settings: CommonSettings, digest: str) -> None:
    """Note what is trained on what; where a checkpoint is there from before, it must be of the same.

    Raises:
        RunError: the training in the folder is another one.
    """
    mine = {"settings": decisive(settings), "data": digest, "base": identity(settings.base)}
    path = folder / BEGUN
    if path.exists() and any((folder / CHECKPOINTS).glob("checkpoint-*")):
        try:
            theirs = msgspec.json.decode(path.read_bytes())
        except msgspec.DecodeError:
            theirs = {}
        differing = _differing(theirs, msgspec.to_builtins(mine))
        if differing:
            remedy = "Give the same command to go on, another --name for another model, or --overwrite to begin anew."
            raise RunError(folder, f"a training with another {differing}", "the same one", remedy)
        return
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(mine), indent=1) + b"\n")


def _differing(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    before, now = theirs.get("settings", {}), mine["settings"]
    names = [f"{name} ({before.get(name)}, now {value})" for name, value in now.items() if before.get(name) != value]
    names += ["set of pairs"] * (theirs.get("data") != mine["data"])
    if not any(name.startswith("base ") for name in names):
        names += ["base under the same name"] * (theirs.get("base") != mine["base"])
    return ", ".join(names)


def identity(base: str) -> dict[str, str]:
    """What tells a base from another: its config, the size and the first and last bytes of its weights."""
    from prefkit.training.bases import base_model

    folder = Path(base_model(base))
    if not folder.is_dir():
        return {"id": base}
    found = {}
    for path in sorted((*folder.glob("config.json"), *folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with open(path, "rb") as file:
            ends = file.read(1 << 20)
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            ends += file.read()
        found[path.name] = f"{path.stat().st_size} {hashlib.blake2b(ends, digest_size=10).hexdigest()}"
    return found
