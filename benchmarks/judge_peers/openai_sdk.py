"""The openai SDK: its asynchronous client, so many workers."""

# /// script
# dependencies = ["openai==3.54.0"]
# ///

import asyncio
import json
import sys
import time
from pathlib import Path

from openai import AsyncOpenAI


async def main(port: int, concurrency: int, questions: list[list[dict[str, str]]]) -> None:
    waiting = iter(questions)
    async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:

        async def worker() -> None:
            for messages in waiting:
                reply = await client.chat.completions.create(
                    model="fake", messages=messages, temperature=0.0, max_tokens=1024
                )
                assert reply.choices[0].message.content

        await asyncio.gather(*(worker() for _ in range(concurrency)))


port, n, concurrency = map(int, sys.argv[1:4])
given = json.loads(Path(sys.argv[4]).read_bytes())
start, cpu = time.perf_counter(), time.process_time()
asyncio.run(main(port, concurrency, given["messages"][:n]))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"requests": n, "seconds": seconds, "cpu_seconds": cpu}))
