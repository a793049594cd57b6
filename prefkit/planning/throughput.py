"""How many tokens a second a GPU reads and writes: a table of the user's own, as prices are.

Reads   throughput.yaml in the run folder, beside it, or where the command runs; or the file that is named

    judge-a:                        # a model by its name; or a stage: generate, judge, score, train-rm
      total: [40000, 58000]         # tokens a second of prompts and replies together, a number or from-to
      gpus: 1                       # that it takes to be this fast; 1 where it is left out
      source: vllm bench serve on our H100, 2026-11
    judge-b:
      prompt: 20000                 # or both for themselves, as measured apart
      reply: 2500

prefkit knows no throughput: it depends on the model, the GPU, the server and the lengths. A range gives hours with a
range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit.errors import InputError, RubricError
from prefkit.planning.ranges import Range
from prefkit.rubric_yaml import load_yaml

FILE = "throughput.yaml"
_KEYS = ("total", "prompt", "reply", "gpus", "source")
_REMEDY = "docs/scale.md shows a table."


@dataclass(frozen=True)
class Speed:
    """Tokens a second on ``gpus`` GPUs: of both together, or of prompts and of replies."""

    total: Range | None = None
    prompt: Range | None = None
    reply: Range | None = None
    gpus: float = 1.0
    source: str = ""

    def gpu_hours(self, prompt: Range, reply: Range) -> Range:
        """GPU hours for so many tokens."""
        if self.total is not None:
            seconds = (prompt + reply).over(self.total)
        else:
            assert self.prompt is not None and self.reply is not None, "one of the two ways is always said"
            seconds = prompt.over(self.prompt) + reply.over(self.reply)
        return seconds.times(Range.exact(self.gpus / 3600))


def read_throughput(run: Path, file: Path | None) -> dict[str, Speed]:
    """The table, by model; empty where there is none.

    Raises:
        InputError: with file, line and key, whatever is wrong with it.
    """
    folders = [run, run.absolute().parent, Path()]
    path = file or next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if path is None:
        return {}
    try:
        value, lines = load_yaml(path.read_text(encoding="utf-8-sig"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, str(error), "a table of models that can be read", _REMEDY) from None
    except RubricError as error:
        raise InputError(error.where, error.found, error.expected, _REMEDY) from None
    if not isinstance(value, dict):
        raise InputError(path, "no mapping", "a mapping with a model before each colon", _REMEDY)
    return {str(name): _speed(raw, f"{path}:{lines.get(str(name), 1)}: {name}") for name, raw in value.items()}


def _speed(raw: Any, at: str) -> Speed:
    if not isinstance(raw, dict):
        raise InputError(at, "no mapping", "total, or prompt and reply", _REMEDY)
    unknown = next((key for key in raw if key not in _KEYS), None)
    if unknown is not None:
        raise InputError(f"{at}.{unknown}", "a key that has no meaning here", f"one of {', '.join(_KEYS)}", _REMEDY)
    rates = {name: _rate(raw[name], f"{at}.{name}") for name in ("total", "prompt", "reply") if name in raw}
    if set(rates) not in ({"total"}, {"prompt", "reply"}):
        found = " and ".join(rates) or "no rate"
        raise InputError(at, found, "total, or prompt and reply", _REMEDY)
    gpus = _number(raw.get("gpus", 1), f"{at}.gpus")
    return Speed(**rates, gpus=gpus, source=str(raw.get("source", "")))


def _rate(value: Any, at: str) -> Range:
    if isinstance(value, list):
        if len(value) != 2:
            raise InputError(at, f"{len(value)} numbers", "one, or two: from and to", _REMEDY)
        low, high = sorted(_number(one, at) for one in value)
        return Range(low, high)
    return Range.exact(_number(value, at))


def _number(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(at, repr(value), "a number above 0", _REMEDY)
    return float(value)


def speed_of(table: Mapping[str, Speed], *names: str) -> Speed | None:
    """The first of some names that the table has."""
    return next((table[name] for name in names if name in table), None)
