"""How many responses there will be, and how long they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from prefkit.judging.settings import JudgeSettings
from prefkit.planning.asked import Asked
from prefkit.planning.lengths import FEWEST, Measured
from prefkit.planning.ranges import Range, mean_of
from prefkit.planning.stand_ins import StandIns


@dataclass(frozen=True)
class Responses:
    """Those that are there and those to come.

    Args:
        measured: what the run's own say.
        expected: how many are to come.
        policies: by whom.
        scale: prompts that are planned for over those that the run has. Responses of other policies grow with it.
        stand_ins: for those to come at the run's own prompts.
    """

    measured: Measured
    expected: float
    policies: Collection[str]
    scale: float
    stand_ins: StandIns

    @property
    def known(self) -> bool:
        """Whether texts say how long an answer is."""
        return sum(map(len, self.measured.texts.values())) >= FEWEST

    @property
    def grown(self) -> dict[str, float]:
        """By which factor the responses of each policy that the run has grow: those to come are counted by
        themselves."""
        return {name: 1.0 if name in self.policies else self.scale for name in self.measured.responses}

    @property
    def count(self) -> float:
        """How many there will be."""
        there = sum(self.measured.responses[name] * factor for name, factor in self.grown.items())
        return there + self.expected

    def mean(self) -> Range:
        """Bytes of an answer to come: those of what stands in for it. The texts of several policies on a prompt are
        alike in length, so no more of them count than one policy has."""
        texts = self.measured.texts
        sizes = [len(text.encode()) for some in texts.values() for text in some]
        found = mean_of(sizes, seen=max(map(len, texts.values())), expected=self.expected)
        if not self.stand_ins.count or not found.value:
            return found
        return found.times(Range.exact(self.stand_ins.text_bytes / self.stand_ins.count / found.value))

    def text_bytes(self) -> Range:
        """Bytes of all texts."""
        there = sum(self.measured.text_bytes[name] * factor for name, factor in self.grown.items())
        return Range.exact(there) + self.mean().times(Range.exact(self.expected))

    def line_bytes(self, there: int) -> Range | None:
        """Bytes of all lines, of which those that are there take so many; None where no text is known."""
        if not self.known:
            return Range.exact(there) if not self.expected else None
        made, total = self.stand_ins, max(self.measured.responses.total(), 1)
        around = (there - self.measured.text_bytes.total()) / total
        around_new = (made.line_bytes - made.text_bytes) / made.count if made.count else around
        old = around * (self.count - self.expected)
        return self.text_bytes() + Range.exact(old + around_new * self.expected)

    def doubt(self, counts: Asked, settings: JudgeSettings, prompts: float) -> Range:
        """What a judge's prompt tokens are to be multiplied by: 1, with the doubt about the answers that are shown and
        are only stood in for."""
        mean, shown = self.mean(), {"rate": 1, "compare": 2, "choose": 0}[settings.mode]
        if not mean.value or not counts.questions:
            return Range.exact(1.0)
        times = counts.questions * shown / self.count if shown else counts.questions / prompts
        part = min(1.0, self.expected * times * mean.value / max(counts.prompt_bytes(), 1.0))
        return Range(1 - part * (1 - mean.low / mean.value), 1 + part * (mean.high / mean.value - 1), 1.0)
