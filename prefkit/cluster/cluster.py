"""A cluster of Ray, and work done in it over many items.

Chooses Ray Data, with one item a task: Ray places the tasks, and does again those of a worker that died

Work is a function of a module, or a ``functools.partial`` of one, that takes an item and gives a result; all three are
pickled. It may be done twice, and must do no harm then.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prefkit.errors import PrefkitError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[int], None]
HERE = "local"
"""The address of a cluster that is made on this machine, and ends with the command."""
TRIES = 3
"""How often a cluster on this machine is started before that is given up."""
_COLUMN = "item"


@dataclass(frozen=True)
class Shared(Generic[T]):
    """Something in the cluster's memory: workers of a machine share it, and it can stand in work and in items."""

    _reference: Any

    def get(self) -> T:
        """It; an array is not copied, and must not be changed."""
        import ray

        found: T = ray.get(self._reference)
        return found


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined.

    Args:
        cpus: how many processors it has.
        gpus: how many GPUs.
    """

    cpus: int
    gpus: int = 0

    def put(self, value: T) -> Shared[T]:
        """Put something into the cluster's memory once, such as an array."""
        import ray

        return Shared(ray.put(value))

    def over(
        self,
        items: Iterable[T],
        work: Callable[[T], R],
        *,
        cpus: float = 1,
        gpus: float = 0,
        progress: Progress = lambda more: None,
    ) -> Generator[R, None, None]:
        """The results of some work on each of the items, in any order, as they come.

        Args:
            items: what is worked on; small, such as blocks of parts.
            work: on an item; done again elsewhere when its worker dies.
            cpus, gpus: that an item takes while it is worked on.
            progress: told how many more items are done.

        Raises:
            PrefkitError: as the work raised it. What else it raises comes as Ray's error, with the worker's traceback.
        """

        def one(row: dict[str, Any]) -> dict[str, bytes]:
            return _done(work, row)

        return _results(items, one, progress, num_cpus=cpus, num_gpus=gpus)

    def over_loaded(
        self,
        items: Iterable[T],
        load: Callable[[], Callable[[T], R]],
        *,
        workers: int,
        cpus: float = 1,
        gpus: float = 0,
        progress: Progress = lambda more: None,
    ) -> Generator[R, None, None]:
        """The same by workers that stay: each first loads something that takes long, such as a model.

        Args:
            items: see ``over``.
            load: called in each worker, and in one that takes a dead one's place, before its first item; gives the
                work.
            workers: how many, at most.
            cpus, gpus: that a worker takes for as long as there are items.
            progress: see ``over``.

        Raises:
            PrefkitError: see ``over``.
        """
        from ray.data import ActorPoolStrategy

        some = list(items)
        pool = ActorPoolStrategy(size=max(1, min(workers, len(some))))
        how = {"fn_constructor_args": (load,), "compute": pool, "num_cpus": cpus, "num_gpus": gpus}
        return _results(some, _Loaded, progress, **how)


class _Loaded:
    """Work by a worker that stays, as Ray Data calls it."""

    def __init__(self, load: Callable[[], Callable[[Any], Any]]) -> None:
        self._load = load
        self._work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        return _done(self._loaded, row)

    def _loaded(self, item: Any) -> Any:
        if self._work is None:
            self._work = self._load()
        return self._work(item)


@dataclass(frozen=True)
class _Explained:
    """In the place of a result: an error for the user."""

    error: PrefkitError


def packed(value: Any) -> dict[str, bytes]:
    """Anything that can be pickled as a row of Ray Data."""
    from ray import cloudpickle

    return {_COLUMN: cloudpickle.dumps(value)}


def unpacked(row: dict[str, Any]) -> Any:
    """What ``packed`` made a row of; or a batch of one row."""
    from ray import cloudpickle

    value = row[_COLUMN]
    return cloudpickle.loads(value if isinstance(value, bytes) else value[0])


def rows_of(items: Iterable[Any]) -> Any:
    """A dataset of Ray Data with a row for each item, each to be worked on in a task of its own; None without items."""
    from ray.data import from_items

    rows = list(map(packed, items))
    return from_items(rows, override_num_blocks=len(rows)) if rows else None


def _done(work: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, bytes]:
    try:
        return packed(work(unpacked(row)))
    except PrefkitError as error:
        return packed(_Explained(error))


def _results(items: Iterable[Any], work: Any, progress: Progress, **how: Any) -> Generator[Any, None, None]:
    rows = rows_of(items)
    if rows is None:
        return
    for row in rows.map(work, **how).iter_rows():
        result = unpacked(row)
        if isinstance(result, _Explained):
            raise result.error
        progress(1)
        yield result


@contextlib.contextmanager
def joined(address: str | None = None, cpus: int | None = None) -> Iterator[Cluster]:
    """A cluster: the one at an address, or one on this machine that ends with the block.

    What this process has joined already is used as it is, and is not left.

    Args:
        address: ``host:port``, or ``auto`` for the one that runs on this machine; ``local`` is one of our own.
        cpus: of a cluster on this machine; all that it has where it is not given.

    Raises:
        PrefkitError: Ray is not installed, or no cluster answers.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _join(ray, address or HERE, cpus)
    try:
        _quiet()
        has = ray.cluster_resources()
        yield Cluster(cpus=max(1, int(has.get("CPU", 1))), gpus=int(has.get("GPU", 0)))
    finally:
        if ours:
            ray.shutdown()


def _join(ray: Any, address: str, cpus: int | None) -> None:
    """Join a cluster, or make one; Ray gives its own processes half a minute, which a busy machine may not have.

    Raises:
        PrefkitError: none answers.
    """
    here = address == HERE
    for tried in range(1, TRIES + 1):
        try:
            ray.init(
                address=address,
                num_cpus=cpus if here else None,
                include_dashboard=False if here else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
            return
        except Exception as error:
            ray.shutdown()
            slow = type(error) is Exception  # so Ray raises it when it waited in vain
            if slow and here and tried < TRIES:
                continue
            if not slow and not isinstance(error, ConnectionError | RuntimeError | ValueError | TimeoutError):
                raise
            found = " ".join(str(error).split()).rstrip(".")
            remedy = "Start one (ray start --head), look at the address, or leave out --ray-address for one of our own."
            raise PrefkitError(address, found, "a cluster of Ray that answers", remedy) from None


def _ray() -> Any:
    """Ray, told to send nothing to its makers.

    Raises:
        PrefkitError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        found = f"no {error.name or 'ray'}"
        raise PrefkitError("--engine ray", found, "Ray", "pip install 'prefkit[ray]'") from None
    return ray


def _quiet() -> None:
    """Let Ray Data say nothing of its own, and let it do again what failed for no fault of the work."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.shuffle_strategy = "sort_shuffle_pull_based"  # its tasks hold nothing: one that dies is done again
    logging.getLogger("ray.data").setLevel(logging.ERROR)
