"""The floor: aiohttp in a loop, the same bytes as prefkit sends, nothing read in the reply, nothing stored."""

# /// script
# dependencies = ["aiohttp==3.14.5", "orjson==3.13.0", "uvloop==0.23.0"]
# ///

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp
import orjson
import uvloop


async def main(port: int, concurrency: int, questions: list[list[dict[str, str]]], schema: dict[str, object]) -> None:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    waiting = iter(questions)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

        async def worker() -> None:
            for messages in waiting:
                body = {"model": "fake", "messages": messages, "temperature": 0.0, "max_tokens": 1024}
                body["response_format"] = form
                async with session.post(url, data=orjson.dumps(body)) as answer:
                    reply = orjson.loads(await answer.read())
                assert reply["choices"][0]["message"]["content"]

        await asyncio.gather(*(worker() for _ in range(concurrency)))


port, n, concurrency = map(int, sys.argv[1:4])
given = json.loads(Path(sys.argv[4]).read_bytes())
start, cpu = time.perf_counter(), time.process_time()
uvloop.run(main(port, concurrency, given["messages"][:n], given["schema"]))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps({"requests": n, "seconds": seconds, "cpu_seconds": cpu}))
