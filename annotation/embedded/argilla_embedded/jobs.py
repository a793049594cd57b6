"""Argilla's background jobs in this process, without a Redis server.

argilla-server puts jobs on rq queues in Redis for worker processes. A Redis on TCP would be a door: rq jobs are
pickles, and whoever can write to it runs code. Here Redis is an object in this process (fakeredis), and a job that is
put on a queue becomes a task on the server's own event loop. Its state stays readable at ``/api/v1/jobs/ID``.

What is lost when the process ends is the queue. Of the jobs only one leaves a trace that matters, the records' status
after a dataset's overlap was changed, and `database.repair` computes that at every start.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import fakeredis
import redis
from rq import Queue
from rq.job import Job, JobStatus

KEPT = 3600
"""Seconds for which a finished job can still be asked about."""

_LOG = logging.getLogger("argilla_embedded")
_running: set[asyncio.Task[None]] = set()


@contextlib.contextmanager
def redis_in_process() -> Iterator[None]:
    """While this is open, ``redis.from_url`` gives a Redis that lives in this process; import the server inside."""
    real = redis.from_url
    redis.from_url = lambda *args, **kwargs: fakeredis.FakeStrictRedis()
    try:
        yield
    finally:
        redis.from_url = real


class LoopQueue(Queue):
    """A queue whose jobs are tasks of the running loop."""

    def enqueue_job(self, job: Job, pipeline: Any = None, at_front: bool = False) -> Job:
        """Keep the job's state where ``/jobs/ID`` looks for it, and start it."""
        job.origin = self.name
        job.set_status(JobStatus.QUEUED)
        job.save()
        job.cleanup(ttl=KEPT)
        task = asyncio.get_running_loop().create_task(_run(job))
        _running.add(task)
        task.add_done_callback(_running.discard)
        return job


async def _run(job: Job) -> None:
    """Run a job with its retries; a failure is logged and kept as the job's state, as a worker would."""
    from argilla_server.jobs.webhook_jobs import notify_event_job

    intervals = [0, *(job.retry_intervals or [0]) * (job.retries_left or 0)][: (job.retries_left or 0) + 1]
    call = _deliver if job.func is notify_event_job else job.func
    for attempt, pause in enumerate(intervals, start=1):
        await asyncio.sleep(pause)
        _remember(job, JobStatus.STARTED)
        try:
            outcome = call(*job.args, **job.kwargs)
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its own failure, as in a worker
            _LOG.warning("job %s failed, attempt %d of %d: %s", job.func_name, attempt, len(intervals), error)
        else:
            _remember(job, JobStatus.FINISHED)
            return
    _remember(job, JobStatus.FAILED)


def _remember(job: Job, status: JobStatus) -> None:
    job.set_status(status)
    job.cleanup(ttl=KEPT)


async def _deliver(webhook_id: UUID, event: str, timestamp: datetime, data: dict[str, Any]) -> None:
    """argilla's ``notify_event_job`` with its blocking POST in a thread: on the loop it would stop every annotator."""
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import Webhook
    from argilla_server.webhooks.v1.commons import notify_event

    async with AsyncSessionLocal() as db:
        webhook = await Webhook.get_or_raise(db, webhook_id)
    response = await asyncio.to_thread(notify_event, webhook, event, timestamp, data)
    response.raise_for_status()


def run_on_loop() -> None:
    """Have the imported server's two queues start their jobs here. Call once, after importing it."""
    from argilla_server.jobs import queues

    for queue in (queues.DEFAULT_QUEUE, queues.HIGH_QUEUE):
        queue.__class__ = LoopQueue


async def finish(seconds: float) -> int:
    """Wait for running jobs before the process ends.

    Returns:
        How many were still running after that time; they are cancelled.
    """
    if not _running:
        return 0
    _, late = await asyncio.wait(_running, timeout=seconds)
    for task in late:
        task.cancel()
    return len(late)
