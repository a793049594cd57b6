"""The choices of ``prefkit iterate``: what each is, and what it is unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from prefkit.errors import PrefkitError
from prefkit.policies.choosing import Choose
from prefkit.policies.settings import PolicySettings

Reference = Literal["round", "start"]


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How the rounds go.

    Args:
        training: of each round; its ``base`` is the start. Answers at its looks have at most ``answer_tokens``.
        rounds: at most so many.
        prompts: that are asked in a round.
        samples: answers to each.
        reference: of each training: the policy that the ``round`` begins with, or the ``start``.
        choose: the best answer against the worst, or each of the ``top`` best against each of the ``top`` worst.
        top: how many, of top-k.
        min_gap: by how much the better one's reward has to be higher, in standard deviations of the rewards that the
            reward model gave its training responses.
        keep_cut_off: answers that were cut off are learned from as well.
        held_out: prompts to measure on.
        best_of: how many answers of the start the best is taken of, for comparison; 0 for none, None for ``samples``.
        answer_tokens: of an answer at most.
        temperature, top_p: how answers are drawn.
        seed: of prompts and answers.
    """

    training: PolicySettings
    rounds: int = 2
    prompts: int = 512
    samples: int = 8
    reference: Reference = "round"
    choose: Choose = "best-worst"
    top: int = 2
    min_gap: float = 0.0
    keep_cut_off: bool = False
    held_out: int = 128
    best_of: int | None = None
    answer_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def resolved(self) -> RoundSettings:
        """The same without gaps.

        Raises:
            PrefkitError: a number is out of its range.
        """
        wrong = (
            ("rounds", self.rounds < 1, "at least 1"), ("prompts", self.prompts < 1, "at least 1"),
            ("samples", self.samples < 2, "at least 2, to compare"), ("top", self.top < 1, "at least 1"),
            ("min_gap", not 0 <= self.min_gap < float("inf"), "a number from 0"),
            ("held_out", self.held_out < 1, "at least 1"), ("best_of", (self.best_of or 0) < 0, "at least 0"),
            ("answer_tokens", self.answer_tokens < 1, "at least 1"),
            ("temperature", not 0 < self.temperature < float("inf"), "a number above 0, or all answers are alike"),
            ("top_p", not 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_tokens", self.training.max_tokens <= self.answer_tokens, "more than answer_tokens, for the prompt"),
        )  # fmt: skip
        for name, is_wrong, expected in wrong:
            if is_wrong:
                found = getattr(self, name, None) if name != "max_tokens" else self.training.max_tokens
                raise PrefkitError(f"settings: {name}", f"{found}", expected, "Choose another value.")
        best_of = self.samples if self.best_of is None else self.best_of
        training = replace(self.training, check_tokens=self.answer_tokens).resolved()
        return replace(self, training=training, best_of=best_of)
