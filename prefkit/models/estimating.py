"""What it would take to ask a stage's questions, before anything is sent.

Reads   what the questions read, and the records that the run holds
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from prefkit.durable import read_lines
from prefkit.models.asking import AskSettings, Questions, known_models
from prefkit.models.budget import halved
from prefkit.models.held import Held
from prefkit.records import Usage
from prefkit.run import Run


@dataclass(frozen=True)
class Estimate:
    """What the questions of a model that are not answered yet would take.

    ``prompt_bytes`` are exact; tokens and cost are (low, high): four to three bytes a token for the prompt, and for the
    reply what this model's replies in the run took on average, or a third of their bound to all of it.
    """

    model: str
    calls: int
    from_before: int
    prompt_bytes: int
    tokens: tuple[int, int]
    cost: tuple[float, float] | None


def estimate(run: Run, questions: Questions, settings: AskSettings, progress: Callable[[int], None]) -> list[Estimate]:
    """What it would take to ask; nothing is sent.

    Raises:
        PrefkitError: a name is not known.
    """
    held = Held.of(run.path / questions.file)
    found = []
    for entry in known_models(run, settings.models):
        model = entry.as_model()
        calls = before = size = bound = 0
        for task in questions.tasks(model, held):
            progress(1)
            if task is None:
                before += 1
                continue
            request = task.request()
            calls += 1
            size += sum(len(message.content.encode()) for message in request.messages)
            bound += request.sampling.max_tokens or 0
        mean = _mean_reply(run.path / questions.file, entry.name)
        reply = (bound // 3, bound) if mean is None else (round(calls * mean), round(calls * mean))
        prompt = (size // 4, size // 3)
        cost = None
        price = halved(entry.price) if settings.batch else entry.price
        if price is not None:
            low, high = (price.of(Usage(prompt=prompt[side], completion=reply[side])) for side in (0, 1))
            cost = (low, high)
        found.append(Estimate(entry.name, calls, before, size, (prompt[0] + reply[0], prompt[1] + reply[1]), cost))
    return found


class _Replied(msgspec.Struct):
    annotator: str = ""
    policy: str = ""
    usage: Usage | None = None


def _mean_reply(path: Path, name: str) -> float | None:
    """Mean tokens of a reply of a model in the run; None where there is none yet."""
    decoder = msgspec.json.Decoder(_Replied)
    if not path.exists():
        return None
    count = tokens = 0
    for _, line in read_lines(path):
        one = decoder.decode(line)
        if one.usage is not None and name in (one.policy, one.annotator.removeprefix("llm:")):
            count += one.usage.calls
            tokens += one.usage.completion
    return tokens / count if count else None
