"""distilabel: a pipeline of ``LoadDataFromDicts`` and ``ChatGeneration``, its batch as large as the concurrency."""

# /// script
# dependencies = ["distilabel[openai]==1.5.3", "requests==2.34.2"]
# ///

import json
import logging
import resource
import sys
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import ChatGeneration


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(port: int, concurrency: int, questions: list[list[dict[str, str]]]) -> None:
    model = OpenAILLM(
        model="fake",
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none",
        generation_kwargs={"max_new_tokens": 1024, "temperature": 0.0},
    )
    with Pipeline("peer") as pipeline:
        load = LoadDataFromDicts(data=[{"messages": messages} for messages in questions], batch_size=concurrency)
        load >> ChatGeneration(llm=model, input_batch_size=concurrency)
    made = pipeline.run(use_cache=False)
    assert sum(row["generation"] is not None for row in made["default"]["train"]) == len(questions)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    port, n, concurrency = map(int, sys.argv[1:4])
    given = json.loads(Path(sys.argv[4]).read_bytes())
    start, cpu = time.perf_counter(), cpu_seconds()
    main(port, concurrency, given["messages"][:n])
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    print(json.dumps({"requests": n, "seconds": seconds, "cpu_seconds": cpu}))
