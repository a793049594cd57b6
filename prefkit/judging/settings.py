"""The choices of ``prefkit judge``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefkit.models.chat import Sampling

Mode = Literal["rate", "compare", "choose"]


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What is asked about which responses.

    ``baseline`` compares every policy with this one only; ``pairs_per_prompt`` draws so many pairs at random.
    ``temperature`` is 0 unless given, and 1 with several samples, which would else be one answer many times.
    ``nearest_examples`` contrast examples are shown with each case in place of all that the rubric has: those with the
    prompts nearest to the case's by the model ``embedder``, out of the rubric's and those in the file ``examples``.
    """

    mode: Mode = "rate"
    per_principle: bool = False
    overall_only: bool = False
    reason: bool = False
    expected: bool = False
    samples: int = 1
    temperature: float | None = None
    reply_tokens: int = 1024
    seed: int | None = None
    policies: tuple[str, ...] = ()
    baseline: str | None = None
    pairs_per_prompt: int | None = None
    prompts: int | None = None
    nearest_examples: int | None = None
    embedder: str | None = None
    examples: Path | None = None

    def sampling(self, model: Sampling, sample: int) -> Sampling:
        """How a model draws its ``sample``-th answer; what the model's entry says goes before our defaults."""
        temperature = self.temperature
        if temperature is None:
            temperature = model.temperature
        if temperature is None:
            temperature = 0.0 if self.samples == 1 else 1.0
        seed = self.seed if self.seed is not None else model.seed
        return Sampling(
            temperature=temperature,
            top_p=model.top_p,
            max_tokens=model.max_tokens or self.reply_tokens,
            seed=None if seed is None else seed + sample,
            stop=model.stop,
            frequency_penalty=model.frequency_penalty,
            presence_penalty=model.presence_penalty,
        )
