"""inspect_ai: a task that only generates, ``max_connections`` as large as the concurrency, no display."""

# /// script
# dependencies = ["inspect_ai==0.3.285", "openai==3.54.0"]
# ///

import json
import sys
import tempfile
import time
from pathlib import Path

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, get_model
from inspect_ai.solver import generate


def main(port: int, concurrency: int, questions: list[list[dict[str, str]]]) -> None:
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser}
    samples = [Sample(input=[kinds[one["role"]](content=one["content"]) for one in messages]) for messages in questions]
    config = GenerateConfig(temperature=0.0, max_tokens=1024, max_connections=concurrency)
    model = get_model(
        "openai/fake", base_url=f"http://127.0.0.1:{port}/v1", api_key="none", config=config, responses_api=False
    )
    task = Task(dataset=MemoryDataset(samples), solver=generate())
    with tempfile.TemporaryDirectory() as folder:
        [log] = eval(task, model=model, log_dir=folder, display="none", max_connections=concurrency)
    assert log.status == "success", log.error


port, n, concurrency = map(int, sys.argv[1:4])
given = json.loads(Path(sys.argv[4]).read_bytes())
start, cpu = time.perf_counter(), time.process_time()
main(port, concurrency, given["messages"][:n])
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"requests": n, "seconds": seconds, "cpu_seconds": cpu}))
