"""The lines of a plan: from what is asked to tokens, money and GPU hours, and where each of these comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prefkit.models.budget import halved
from prefkit.models.chat import Price
from prefkit.models.entries import ModelEntry
from prefkit.planning.asked import Asked
from prefkit.planning.disk import Built
from prefkit.planning.lengths import BYTES_A_TOKEN, FEWEST, Measured, usual_rate
from prefkit.planning.ranges import Range, mean_of
from prefkit.planning.responses import Responses
from prefkit.planning.throughput import Speed, speed_of
from prefkit.records import Usage
from prefkit.run import Run
from prefkit.training.settings import PRESETS, Preset

GENERATE, SCORE, TRAIN = "generate", "score", "train-rm"


@dataclass(frozen=True)
class Line:
    """One model in one round, or a reward model that reads all texts.

    ``calls`` of a round are calls to its model, of ``score`` texts, of ``train-rm`` optimiser steps; ``before`` is how
    many of the round's questions were answered before. What is None is not known. ``source`` says where tokens come
    from.
    """

    stage: str
    model: str
    calls: Range | None
    before: int
    prompt: Range
    reply: Range | None
    cost: Range | None
    gpu_hours: Range | None
    source: str


class Lines:
    """Makes them.

    Args:
        measured: what the run's answers took.
        speeds: by model.
        batch: whether everything is asked at half the price.
        tokenizer: the name of the one that counts, if any.
    """

    def __init__(
        self, measured: Measured, speeds: Mapping[str, Speed], *, batch: bool = False, tokenizer: str | None = None
    ) -> None:
        self._measured = measured
        self._speeds = speeds
        self._batch = batch
        self._tokenizer = tokenizer

    def generate(self, entry: ModelEntry, counts: Asked) -> Line:
        """A policy that answers. Where none of its answers says what it took, they are as long as those that the run
        has; where it has none, from a third of their bound to all of it."""
        reply, source = counts.reply_tokens(), ""
        if reply is None:
            own = self._measured.texts.get(entry.name) or []
            texts = own if len(own) >= FEWEST else [text for some in self._measured.texts.values() for text in some]
            if len(texts) >= FEWEST:
                sizes = [len(text.encode()) for text in texts]
                mean = mean_of(sizes, seen=len(texts), expected=counts.questions)
                reply = mean.times(self._rate()).times(Range.exact(counts.questions))
                source = "replies as long as the run's responses"
            else:
                reply = Range(counts.questions * counts.bound / 3, counts.questions * counts.bound)
                source = "replies from a third of their bound to all of it"
        return self._line(GENERATE, entry, counts, counts.prompt_tokens(), reply, source)

    def judge(self, stage: str, entry: ModelEntry, counts: Asked, doubt: Range) -> Line:
        """A judge; ``doubt`` is that about the texts which are not there yet."""
        reply, source = counts.reply_tokens(), ""
        if reply is None:
            least = counts.questions * counts.shortest / BYTES_A_TOKEN[1]
            reply = Range(least, counts.questions * counts.bound)
            source = "replies from the shortest that fits to their bound"
        return self._line(stage, entry, counts, counts.prompt_tokens().times(doubt), reply, source)

    def _line(
        self, stage: str, entry: ModelEntry, counts: Asked, prompt: Range, reply: Range, reply_source: str
    ) -> Line:
        speed = speed_of(self._speeds, f"{stage}: {entry.name}", entry.name, stage.split()[0])
        computed = prompt.times(Range.exact(1 - counts.cached))
        return Line(
            stage,
            entry.name,
            counts.calls(repairs=stage != GENERATE),
            counts.before,
            prompt,
            reply,
            cost(halved(entry.price) if self._batch else entry.price, prompt, reply, counts.cached),
            speed.gpu_hours(computed, reply) if speed else None,
            self._source(counts, reply_source),
        )

    def _source(self, counts: Asked, replies: str) -> str:
        if not counts.questions:
            return "all answered"
        if counts.measured_prompts >= FEWEST:
            answers = f"{counts.measured:,} answer{'s' * (counts.measured != 1)}"
            prompts = f"measured in {answers} to {counts.measured_prompts:,} prompts"
        else:
            prompts = f"counted by {self._tokenizer}" if counts.counted else "prompts at 3 to 4 bytes a token"
        return f"{prompts}; {replies}" if replies else prompts

    def _rate(self) -> Range:
        return self._measured.rate or usual_rate()

    def reward_models(
        self, run: Run, responses: Responses, pairs: Built | None, scale: float, preset: Preset
    ) -> Iterator[Line]:
        """A reward model that reads all responses, and its training on the pairs."""
        size = sum(len(turn.content.encode()) for prompt in run.prompts() for turn in prompt.messages)
        prompts, texts = Range.exact(size * scale), responses.text_bytes()
        rate = self._rate()
        source = "tokens a byte as policies counted" if self._measured.rate else "3 to 4 bytes a token"
        tokens = (prompts + texts).times(rate)
        yield self._read(SCORE, Range.exact(responses.count), tokens, f"{source}; each text once")
        chosen = PRESETS[preset]
        epochs = f"{chosen['epochs']:g} epochs (preset {preset})"
        if pairs is None:
            most = Range(0.0, tokens.high * chosen["epochs"])
            return (yield self._read(TRAIN, None, most, f"no pairs are built: at most {epochs} of all texts"))
        kept = prompts.times(Range.exact(pairs.prompts / pairs.all_prompts))
        kept += texts.times(Range.exact(pairs.responses / pairs.all_responses))
        steps = max(1, round(chosen["epochs"] * pairs.train * scale / chosen["pairs_per_step"]))
        said = f"{source}; {epochs} of {pairs.train * scale:,.0f} pairs"
        yield self._read(TRAIN, Range.exact(steps), kept.times(rate).times(Range.exact(chosen["epochs"])), said)

    def _read(self, stage: str, calls: Range | None, tokens: Range, source: str) -> Line:
        speed = speed_of(self._speeds, stage)
        hours = speed.gpu_hours(tokens, Range.exact(0.0)) if speed else None
        return Line(stage, "", calls, 0, tokens, None, None, hours, source)


def cost(price: Price | None, prompt: Range, reply: Range, cached: float) -> Range | None:
    """Money for tokens, of whose prompts a share may be cached; the most that it may be is without any cache."""
    if price is None:
        return None

    def of(prompt: float, reply: float, cached: float) -> float:
        return price.of(Usage(prompt=round(prompt), completion=round(reply), cached=round(cached * prompt)))

    value = None if prompt.value is None or reply.value is None else of(prompt.value, reply.value, cached)
    return Range(of(prompt.low, reply.low, cached), of(prompt.high, reply.high, 0.0), value)
