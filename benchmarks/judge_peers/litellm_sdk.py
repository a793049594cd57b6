"""litellm: ``acompletion``, so many workers. Without the variable it tries to download prices when it is imported."""

# /// script
# dependencies = ["litellm==1.106.2"]
# ///

import asyncio
import json
import os
import sys
import time
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm


async def main(port: int, concurrency: int, questions: list[list[dict[str, str]]]) -> None:
    waiting, url = iter(questions), f"http://127.0.0.1:{port}/v1"

    async def worker() -> None:
        for messages in waiting:
            reply = await litellm.acompletion(
                model="openai/fake", api_base=url, api_key="none", messages=messages, temperature=0.0, max_tokens=1024
            )
            assert reply.choices[0].message.content

    await asyncio.gather(*(worker() for _ in range(concurrency)))


port, n, concurrency = map(int, sys.argv[1:4])
given = json.loads(Path(sys.argv[4]).read_bytes())
start, cpu = time.perf_counter(), time.process_time()
asyncio.run(main(port, concurrency, given["messages"][:n]))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"requests": n, "seconds": seconds, "cpu_seconds": cpu}))
