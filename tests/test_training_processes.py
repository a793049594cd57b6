"""Several processes: the same course of the loss, whoever goes on with it; who kept a checkpoint; what they share."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model
from train_cut import Killed, die, in_a_process_of_its_own, pairs_file

from benchmarks.reward import NEAR, SHARDED, believe_in_gpus
from prefkit.errors import PrefkitError
from prefkit.training.checkpoints import STATE, kept, last_checkpoint, need_same_engine, note
from prefkit.training.machine import Machine

Work = Callable[[], object]


def train(source: Path, folder: Path, base: Path) -> None:
    from prefkit.training.settings import TrainingSettings
    from prefkit.training.training import train_reward_model
    from prefkit.training.training_pairs import TrainingData

    settings = TrainingSettings(
        base=str(base), pairs_per_step=8, learning_rate=3e-3, max_tokens=400, row_tokens=512, epochs=2.0,
        save_steps=3, log_steps=1, loss="rao-kupper",
    )  # fmt: skip
    train_reward_model(TrainingData(source=source, split=None), settings, folder)


def alone(work: Work) -> None:
    in_a_process_of_its_own(work)


def two(work: Work, *, machines: int = 1, **environment: str) -> None:
    """Two processes that train together, as torchrun starts them on one machine or two; killed together.

    Raises:
        Killed: they were, by signal 9.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": str(2 // machines), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    children = []
    for rank in ("0", "1"):
        child = os.fork()
        if not child:
            os.environ.update(torchrun, RANK=rank, LOCAL_RANK="0" if machines == 2 else rank, **environment)
            _end_after(work)
        children.append(child)
    first, status = os.wait()
    (other,) = set(children) - {first}
    if os.WIFSIGNALED(status):
        os.kill(other, signal.SIGKILL)
    _, other_status = os.waitpid(other, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        raise Killed
    assert (status, other_status) == (0, 0)


def _end_after(work: Work) -> None:
    """Do it and be gone: a fork may not go on as a second pytest."""
    import traceback

    from accelerate.state import AcceleratorState, PartialState

    try:
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
        work()
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def two_machines(work: Work) -> None:
    two(work, machines=2)


def sharded(work: Work) -> None:
    def in_shards() -> None:
        believe_in_gpus()
        work()

    two(in_shards, **SHARDED)


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "training.json").read_text())["history"]
    return [line["loss"] for line in history if "loss" in line]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory, base: Path) -> list[float]:
    """The course of the loss in one process that is left alone."""
    folder = tmp_path_factory.mktemp("uncut")
    alone(lambda: train(pairs_file(folder / "pairs.jsonl"), folder / "rm", base))
    return losses(folder / "rm")


@pytest.mark.parametrize(("before", "after"), [(two_machines, alone), (alone, two), (sharded, alone)])
def test_whoever_goes_on_with_a_training_it_takes_the_course_of_one_process_left_alone(
    tmp_path: Path, base: Path, uncut: list[float], before: Callable[[Work], None], after: Callable[[Work], None]
):
    from prefkit.training.reward_trainer import PackedRewardTrainer

    source, folder = pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm"
    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        step = PackedRewardTrainer.training_step
        patched.setattr(
            PackedRewardTrainer,
            "training_step",
            lambda self, *args: die() if self.state.global_step == 4 else step(self, *args),
        )
        before(lambda: train(source, folder, base))
    after(lambda: train(source, folder, base))
    facts = json.loads((folder / "training.json").read_text())
    assert (facts["resumed_after_step"], facts["processes"]) == (3, 2 if after is two else 1)
    assert len(uncut) == facts["steps"] == 10
    assert losses(folder) == pytest.approx(uncut, abs=NEAR)
    assert not (folder / "scratch").exists()


def checkpoint(folder: Path, step: int, processes: int, *, states: int) -> Path:
    """A checkpoint with the states of random numbers of so many of its processes."""
    path = folder / f"checkpoint-{step}"
    note(path, processes, "whole")
    for number in range(states):
        (path / ("rng_state.pth" if processes == 1 else f"rng_state_{number}.pth")).touch()
    (path / STATE).write_text("{}")
    return path


def test_a_checkpoint_is_whole_when_all_that_kept_it_are_done(tmp_path: Path):
    assert last_checkpoint(tmp_path) is None
    whole = checkpoint(tmp_path, 3, 1, states=1)
    checkpoint(tmp_path, 6, 2, states=1)
    checkpoint(tmp_path, 9, 1, states=0)
    (checkpoint(tmp_path, 12, 2, states=2) / STATE).write_text('{"cut o')
    assert last_checkpoint(tmp_path) == whole
    (tmp_path / "checkpoint-6" / "rng_state_1.pth").touch()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-6"


def test_a_checkpoint_of_deepspeed_is_for_as_many_processes_of_it(tmp_path: Path):
    note(tmp_path, 2, "deepspeed")
    need_same_engine(tmp_path, 2, "deepspeed")
    for processes, way in ((1, "whole"), (4, "deepspeed")):
        with pytest.raises(PrefkitError, match="kept by 2 processes with DeepSpeed"):
            need_same_engine(tmp_path, processes, way)  # type: ignore[arg-type]
    note(tmp_path, 2, "whole")
    need_same_engine(tmp_path, 1, "sharded")


def test_a_checkpoint_of_an_earlier_prefkit_says_by_its_files_who_kept_it(tmp_path: Path):
    (tmp_path / "rng_state_0.pth").touch()
    assert kept(tmp_path) == (0, "whole")
    (tmp_path / "pytorch_model_fsdp.bin").touch()
    assert kept(tmp_path) == (0, "sharded")
    (tmp_path / "rng_state.pth").touch()
    assert kept(tmp_path) == (1, "sharded")


class Everyone(Machine):
    """A machine with another one beside it, whose first process has number 2."""

    def all(self, mine: list[Any]) -> list[Any]:
        import pickle

        return [*mine, "theirs"] if mine and isinstance(mine[0], str) else [*mine, (2, pickle.dumps("theirs"))]


def test_the_first_process_of_a_machine_makes_what_the_others_of_it_get():
    assert Everyone(0, True, True).once(lambda: "mine") == "mine"
    assert Everyone(2, False, True).once(lambda: "mine") == "theirs"


def test_machines_that_read_other_pairs_are_refused():
    Everyone(0, True, True).need_the_same("theirs")
    with pytest.raises(PrefkitError, match="different pairs"):
        Everyone(0, True, True).need_the_same("mine")
