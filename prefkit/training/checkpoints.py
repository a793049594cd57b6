"""Checkpoints: which is whole, and going on from one that other processes kept.

Reads, writes   checkpoints/checkpoint-STEP/
    processes.json   written first: how many processes keep it, and how
    the rest         transformers' and accelerate's own; ``trainer_state.json`` is written last by the first process

A training that goes on with as many processes as before, in the same way, reads what transformers kept as transformers
does. One that goes on otherwise, sharded where it was not or the reverse, gets weights and optimiser by name: a weight
has one name however it is cut up. What is learned depends on the number of processes in the rounding of sums alone, so
the loss takes the same course; only where a base has dropout are other numbers drawn.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from prefkit.durable import remove, replacing
from prefkit.errors import PrefkitError

STATE, PROCESSES = "trainer_state.json", "processes.json"
Way = Literal["whole", "sharded", "deepspeed"]
"""How weights and optimiser are kept: as one process has them, cut up by FSDP, or by DeepSpeed."""
_SHARDED_WEIGHTS, _SHARDED_OPTIMISER = "pytorch_model_fsdp", "optimizer"


class Kept(NamedTuple):
    """Who kept a checkpoint.

    Args:
        processes: how many; 0 for not known.
        way: how.
    """

    processes: int
    way: Way

    @property
    def in_words(self) -> str:
        """By how many, and how."""
        many = {0: "", 1: "by one process"}.get(self.processes, f"by {self.processes:,} processes")
        how = {"whole": "", "sharded": "with FSDP", "deepspeed": "with DeepSpeed"}[self.way]
        return f"{many} {how}".strip()


def note(checkpoint: Path, processes: int, way: Way) -> None:
    """Write who keeps a checkpoint, before anything else of it."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    with replacing(checkpoint / PROCESSES) as file:
        file.write(json.dumps({"processes": processes, "way": way}).encode())


def kept(checkpoint: Path) -> Kept:
    """Who kept a checkpoint; where nothing says so, an earlier prefkit, in a way that the files tell."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        found = json.loads((checkpoint / PROCESSES).read_text())
        return Kept(int(found["processes"]), found["way"])
    sharded = any(checkpoint.glob(f"{_SHARDED_WEIGHTS}*"))
    return Kept(1 if (checkpoint / "rng_state.pth").exists() else 0, "sharded" if sharded else "whole")


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint that was written to its end; None where there is none.

    What the first process says of it is written last, behind the weights and the optimiser; the other processes' states
    of random numbers have to be there too.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    for path in sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-"))):
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / STATE).read_text())
            number = kept(path).processes
            states = ["rng_state.pth"] if number == 1 else [f"rng_state_{one}.pth" for one in range(number)]
            if all((path / name).exists() for name in states):
                return path
    return None


def need_same_engine(checkpoint: Path, processes: int, way: Way) -> None:
    """Refuse to go on across DeepSpeed's own format, which only as many processes of it can read.

    Raises:
        PrefkitError: it was kept otherwise.
    """
    theirs = kept(checkpoint)
    if "deepspeed" not in (theirs.way, way) or theirs == (processes, way):
        return
    remedy = "Go on with as many processes and in the way as before, or begin anew with --overwrite."
    raise PrefkitError(checkpoint, f"kept {theirs.in_words}", f"kept {Kept(processes, way).in_words}", remedy)


# --- weights and optimiser by name -----------------------------------------------------------------------------------


def load_weights(model: Any, checkpoint: Path, *, sharded: bool, first: bool) -> None:
    """Give a model the weights of a checkpoint, however they were kept.

    Args:
        model: sharded or not.
        checkpoint: of this model.
        sharded: whether the model is.
        first: whether this is the first process, which alone reads for a sharded model.

    Raises:
        PrefkitError: a weight that learns is missing.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    weights: dict[str, Any] = {}
    if first or not sharded:
        weights = _weights(checkpoint, model)
        learning = [name for name, weight in model.named_parameters() if weight.requires_grad]
        missing = [name for name in learning if name not in weights]
        if missing:
            remedy = "Begin anew with --overwrite."
            raise PrefkitError(checkpoint, f"no weights for {missing[0]}", "all that learn", remedy)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=sharded, strict=False)
    set_model_state_dict(model, weights, options=options)


def _weights(checkpoint: Path, model: Any) -> dict[str, Tensor]:
    """By the model's own names."""
    import torch
    from safetensors.torch import load_file

    if (folder := checkpoint / f"{_SHARDED_WEIGHTS}_0").is_dir():
        found: dict[str, Tensor] = _joined(folder)["model"]
        return found
    if (file := checkpoint / f"{_SHARDED_WEIGHTS}.bin").exists():
        found = torch.load(file, map_location="cpu", weights_only=True)
        return found
    adapters = checkpoint / "adapter_model.safetensors"
    files = [adapters] if adapters.exists() else sorted(checkpoint.glob("model*.safetensors"))
    read = {name: weight for path in files for name, weight in load_file(path).items()}
    if adapters.exists():  # peft leaves the adapter's name out
        plain = {name: _without_adapter(name) for name, _ in model.named_parameters()}
        return {name: read[short] for name, short in plain.items() if short in read}
    return read


def _without_adapter(name: str) -> str:
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def load_optimiser(optimiser: Any, model: Any, checkpoint: Path, *, sharded: bool, first: bool) -> None:
    """Give an optimiser what a checkpoint holds for it, however that was kept; the arguments are those of
    ``load_weights``."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    names = _names(optimiser, model)
    if not sharded:
        optimiser.load_state_dict(_by_number(_optimiser(checkpoint, names), names))
        return
    state = _optimiser(checkpoint, names) if first else {}
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(model, getattr(optimiser, "optimizer", optimiser), state, options=options)


def _names(optimiser: Any, model: Any) -> list[list[str]]:
    """Of the weights in each group of an optimiser."""
    name_of = {id(weight): name.removeprefix("module.") for name, weight in model.named_parameters()}
    return [[name_of[id(weight)] for weight in group["params"]] for group in optimiser.param_groups]


def _optimiser(checkpoint: Path, names: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The state of an optimiser by the names of weights."""
    import torch

    if (folder := checkpoint / f"{_SHARDED_OPTIMISER}_0").is_dir():
        found: dict[str, Any] = _joined(folder)["optimizer"]
        return found
    if (file := checkpoint / f"{_SHARDED_OPTIMISER}.bin").exists():
        found = torch.load(file, map_location="cpu", weights_only=True)
        return found
    read = torch.load(checkpoint / f"{_SHARDED_OPTIMISER}.pt", map_location="cpu", weights_only=True)
    flat = [name for group in names for name in group]
    return {
        "state": {flat[number]: of for number, of in read["state"].items()},
        "param_groups": [{**group, "params": list(of)} for group, of in zip(read["param_groups"], names, strict=True)],
    }


def _by_number(found: Mapping[str, Any], names: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The same as an optimiser that is not sharded takes it: weights by their number."""
    flat = [name for group in names for name in group]
    groups, first = [], 0
    for group, of in zip(found["param_groups"], names, strict=True):
        groups.append({**group, "params": list(range(first, first + len(of)))})
        first += len(of)
    state = found["state"]
    return {"state": {number: state[name] for number, name in enumerate(flat) if name in state}, "param_groups": groups}


def _joined(folder: Path) -> dict[str, Any]:
    """What several processes wrote with torch.distributed.checkpoint."""
    import torch
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        whole = Path(made) / "whole.pt"
        dcp_to_torch_save(folder, whole)
        found: dict[str, Any] = torch.load(whole, map_location="cpu", weights_only=True)
    return found


def remove_others(folder: Path, checkpoint: Path | None) -> None:
    """Remove all checkpoints but one."""
    for path in folder.glob("checkpoint-*"):
        if path != checkpoint:
            remove(path)
