"""The choices of ``prefkit train-policy``: what each is, and what it is unless said otherwise.

A field left at None is taken from the method's own values, for all weights or for an adapter; ``resolved`` gives
settings without such gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from prefkit.errors import PrefkitError
from prefkit.policies.losses import WITH_REFERENCE, Method
from prefkit.training.settings import CommonSettings, Ranges, Schedule

Imitated = Literal["best", "chosen", "all"]
Keep = Literal["best", "last"]

METHODS: dict[Method, dict[str, Any]] = {
    "sft": {"learning_rate": 2e-5, "beta": 1.0},
    "dpo": {"learning_rate": 1e-6, "beta": 0.1},
    "ipo": {"learning_rate": 1e-6, "beta": 0.1},
    "kto": {"learning_rate": 1e-6, "beta": 0.1},
    # lambda and learning rate of PsyLite (arXiv:2506.21536), after supervised training on dialogues
    "orpo": {"learning_rate": 5e-6, "beta": 0.2},
    "simpo": {"learning_rate": 1e-6, "beta": 2.0, "gamma": 1.0},
}
LORA_LEARNING_RATE = 10.0
"""How many times that is when only an adapter is trained, which starts from nothing."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings(CommonSettings):
    """How a policy is trained; the common choices are those of ``CommonSettings``.

    Args:
        method: the loss, see ``losses``.
        sft_first: epochs of supervised training on the same prompts before; 0 for none.
        imitate: what supervised training reads: the ``best`` response of each prompt, every one that is ``chosen`` in a
            pair, or ``all``.
        epochs: passes over the pairs.
        pairs_per_step: about how many pairs an optimiser step has, over all processes; of sft, prompts.
        learning_rate: at its highest.
        reference: the model that dpo, ipo and kto compare with, by name; None: the base.
        beta, gamma, length_alpha, weighted, sft: see ``PolicyLossSettings``.
        max_tokens: of a prompt with a response.
        schedule, warmup: how the learning rate goes; the share of steps in which it rises.
        row_tokens: what is read at once; memory grows with it.
        check_steps: sample answers at the fixed prompts, and read the held-out pairs, every so many steps; None: five
            times in all; 0: at the start and at the end.
        check_prompts: how many fixed prompts, of the held-out ones.
        check_tokens: of a sampled answer at most.
        stop_when_degenerate: end the training at the first check that finds degenerate text.
        patience: end it after so many checks in which the held-out measure has not become better; None: never.
        keep: the weights of the ``best`` check, or the ``last`` ones.
    """

    method: Method = "dpo"
    sft_first: float = 0.0
    imitate: Imitated = "best"
    epochs: float = 1.0
    pairs_per_step: int = 32
    learning_rate: float | None = None
    reference: str | None = None
    beta: float | None = None
    gamma: float | None = None
    length_alpha: float = 1.0
    weighted: bool = False
    sft: float = 0.0
    max_tokens: int = 1024
    schedule: Schedule = "linear"
    warmup: float = 0.1
    row_tokens: int = 1024
    check_steps: int | None = None
    check_prompts: int = 32
    check_tokens: int = 256
    stop_when_degenerate: bool = False
    patience: int | None = None
    keep: Keep = "best"

    def resolved(self) -> PolicySettings:
        """The same with the method's values in the gaps.

        Raises:
            PrefkitError: a number is out of its range, or two choices exclude each other.
        """
        values = {"gamma": 0.0, **METHODS[self.method]}
        if self.lora:
            values["learning_rate"] *= LORA_LEARNING_RATE
        settings = replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})
        settings.check(RANGES)
        settings._check()
        return settings

    def _check(self) -> None:
        if not 0 <= self.length_alpha <= 1:
            raise PrefkitError("settings: length_alpha", str(self.length_alpha), "from 0 to 1", "1 is plain dpo.")
        if self.method != "dpo" and (self.length_alpha != 1 or self.weighted):
            remedy = "Leave them out, or take --method dpo."
            found = f"length_alpha or weighted with {self.method}"
            raise PrefkitError("settings", found, "dpo, whose variants they are", remedy)
        if self.reference and self.method not in WITH_REFERENCE:
            remedy = "Leave --reference out."
            expected = f"{', '.join(sorted(WITH_REFERENCE))}, which compare with one"
            raise PrefkitError("settings: reference", self.method, expected, remedy)
        if self.quantize and self.sft_first:
            remedy = "Train with --method sft --quantize, export it, and go on from that."
            raise PrefkitError("settings: quantize", "two stages", "one, as 4-bit weights keep no adapter", remedy)


RANGES: Ranges = (
    ("epochs", 0, True), ("sft_first", 0, False), ("pairs_per_step", 1, False), ("learning_rate", 0, True),
    ("beta", 0, True), ("gamma", 0, False), ("max_tokens", 8, False), ("warmup", 0, False), ("row_tokens", 8, False),
    ("sft", 0, False), ("check_steps", 0, False), ("check_prompts", 1, False), ("check_tokens", 1, False),
    ("patience", 1, False),
)  # fmt: skip
