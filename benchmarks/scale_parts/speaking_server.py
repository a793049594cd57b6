"""A server that says what real models said, and counts its tokens with a real tokenizer.

    python -m benchmarks.scale_parts.speaking_server WORDS.json [--unreadable 0.03]

No model stands behind it. A policy by name answers a prompt as it did in the data; a judge's scores are drawn, and its
reason is the opening of an answer of the data. Usage is that of SmolLM2's tokenizer and chat template. A share of the
judge's first replies may be prose, which is asked to be repaired.

Reads   WORDS.json   {"answers": {policy: {prompt: answer}}, "reasons": [...]}, and SmolLM2's tokenizer
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chat_server import (
    Answers,
    ChatBody,
    ChatServer,
    Connection,
    Fault,
    Faults,
    Served,
    Settings,
    _schema_of,
    _uniform,
    fitting,
)

OPENING = {"role": "system", "content": "You are a helpful AI assistant named SmolLM, trained by Hugging Face"}
"""What SmolLM2's chat template puts before messages without a setting."""


class Speaking(Answers):
    """Answers of the data, with the tokens that they have."""

    def __init__(self, words: dict[str, Any], unreadable: float) -> None:
        from tokenizers import Tokenizer

        from prefkit.training.bases import base_model

        super().__init__()
        self._answers: dict[str, dict[str, str]] = words["answers"]
        self._reasons: list[str] = words["reasons"]
        self._unreadable = unreadable
        self._tokenizer = Tokenizer.from_file(str(Path(base_model("smollm2")) / "tokenizer.json"))

    def tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt_tokens(self, messages: list[dict[str, str]]) -> int:
        """How many a prompt has, as the chat template writes it."""
        turns = messages if messages[0]["role"] == "system" else [OPENING, *messages]
        written = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
        return self.tokens(f"{written}<|im_start|>assistant\n")

    def text(self, asked: ChatBody, question: bytes, fault: Fault | None = None) -> str:
        """What is said."""
        messages = msgspec.json.decode(asked.messages)
        schema = _schema_of(bytes(asked.response_format))
        if schema is None:
            return self._answers[asked.model][messages[-1]["content"]]
        reason = self._reasons[int.from_bytes(question[:4]) % len(self._reasons)]
        again = any(turn["role"] == "assistant" for turn in messages)
        if not again and _uniform(question, 1) < self._unreadable:
            return reason
        found = fitting(schema, question)
        return json.dumps({**found, "reason": reason} if "reason" in found else found, ensure_ascii=False)

    def completion(self, asked: ChatBody, question: bytes, size: int, fault: Fault | None = None) -> bytes:
        """The whole answer."""
        text = self.text(asked, question, fault)
        prompt, completion = self.prompt_tokens(msgspec.json.decode(asked.messages)), self.tokens(text) + 1
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = {"object": "chat.completion", "model": asked.model, "choices": [choice], "usage": usage}
        return msgspec.json.encode(whole)


async def serve(words: dict[str, Any], unreadable: float) -> None:
    """Serve on the loopback until SIGTERM; say the port on stdout."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = ChatServer(Settings(), Faults())
    server.answers = Speaking(words, unreadable)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await stop.wait()
    listening.close()


@contextlib.contextmanager
def speaking(words: Path, unreadable: float = 0.0) -> Iterator[Served]:
    """The server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_parts.speaking_server", str(words)]
    command += ["--unreadable", str(unreadable)]
    here = Path(__file__).parent.parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        try:
            yield Served(json.loads(process.stdout.readline())["port"])
        finally:
            process.terminate()
            process.wait(10)


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", type=Path)
    parser.add_argument("--unreadable", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(serve(json.loads(options.words.read_text(encoding="utf-8")), options.unreadable))


if __name__ == "__main__":
    main()
