"""Jobs without Redis, in a process of their own: they run on the loop, are tried again, and can be asked about."""

from __future__ import annotations

import json
import subprocess
import sys

from serving import environment

JOBS = """
import asyncio, json, sys
from pathlib import Path
from argilla_embedded import jobs, page
with page.temporary_files(Path(sys.argv[1]) / "page"), jobs.redis_in_process():
    import argilla_server
jobs.run_on_loop()
from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
from rq import Retry
from rq.decorators import job
from rq.job import Job
tries = {"well": 0, "later": 0, "never": 0}
@job(DEFAULT_QUEUE)
async def well(value):
    tries["well"] += value
@job(HIGH_QUEUE, retry=Retry(max=3))
async def later():
    tries["later"] += 1
    if tries["later"] < 3:
        raise ValueError("not yet")
@job(DEFAULT_QUEUE, retry=Retry(max=1))
def never():
    tries["never"] += 1
    raise ValueError("never")
@job(DEFAULT_QUEUE)
async def slow():
    await asyncio.sleep(60)
async def run():
    begun = [well.delay(7), later.delay(), never.delay()]
    at_once = [Job.fetch(job.id, connection=REDIS_CONNECTION).get_status() for job in begun]
    await jobs.finish(10)
    done = [Job.fetch(job.id, connection=REDIS_CONNECTION).get_status() for job in begun]
    slow.delay()
    return [at_once, done, tries, await jobs.finish(0.1), type(REDIS_CONNECTION).__module__.split(".")[0]]
print("RESULT" + json.dumps(asyncio.run(run())))
"""


def test_jobs_run_on_the_loop_with_their_retries_and_no_redis_server(tmp_path):
    printed = subprocess.run(
        [sys.executable, "-c", JOBS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**environment(), "ARGILLA_HOME_PATH": str(tmp_path)},
    ).stdout
    at_once, done, tries, dropped, redis = json.loads(printed.partition("RESULT")[2])
    assert at_once == ["queued"] * 3
    assert done == ["finished", "finished", "failed"]
    assert tries == {"well": 7, "later": 3, "never": 2}
    assert (dropped, redis) == (1, "fakeredis")
