"""Pairs to read: a random few of them with their words, in the terminal."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from prefkit.errors import RunError
from prefkit.records import PreferencePair, Prompt, Response, prompt_text
from prefkit.run import Run, read_pairs


@dataclass(frozen=True)
class PairInWords:
    """A pair with its texts."""

    pair: PreferencePair
    prompt: Prompt
    chosen: Response
    rejected: Response


def sampled(run: Run, count: int, split: str | None, seed: int) -> list[PairInWords]:
    """A random ``count`` of the run's pairs, with their words; memory does not grow with the run.

    Raises:
        RunError: there are no pairs, or none in this split.
    """
    path = run.path / "pairs.parquet"
    if not path.exists():
        raise RunError(run.path, "no pairs", "pairs.parquet", f"Build them: prefkit build-pairs {run.path}")
    # Reservoir sampling: each pair has the same chance, and one pass is enough.
    rng, seen = random.Random(seed), 0
    drawn: list[PreferencePair] = []
    for pair in read_pairs(path):
        if split in (None, pair.split):
            seen += 1
            if len(drawn) < count:
                drawn.append(pair)
            elif (place := rng.randrange(seen)) < count:
                drawn[place] = pair
    if not drawn:
        raise RunError(path, f"no pair in the split {split!r}", "a split that has pairs", "Leave out --split.")
    wanted = {name for pair in drawn for name in (pair.chosen_id, pair.rejected_id)}
    responses = {response.id: response for response in run.responses() if response.id in wanted}
    wanted = {pair.prompt_id for pair in drawn}
    prompts = {prompt.id: prompt for prompt in run.prompts() if prompt.id in wanted}
    try:
        return [
            PairInWords(pair, prompts[pair.prompt_id], responses[pair.chosen_id], responses[pair.rejected_id])
            for pair in drawn
        ]
    except KeyError as missing:
        remedy = f"Build them again: prefkit build-pairs {run.path}"
        raise RunError(path, f"{missing.args[0]}, which the run does not hold", "pairs of this run", remedy) from None


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _shown(text: str | None) -> Text:
    """A text for the terminal: what would steer the terminal is shown as a replacement character."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if text is not None else "(no text)")


def rendered(item: PairInWords) -> RenderableType:
    """A pair for a rich console: the prompt above, chosen and rejected below, the gaps at the foot."""
    pair = item.pair
    gaps = ", ".join(f"{name} {gap:+.2f}" for name, gap in pair.gaps.items() if gap is not None)
    foot = f"gap {pair.rating_gap:.2f}" if pair.rating_gap is not None else "compared, not rated"
    if pair.preferred is not None:
        foot += f"; preferred by {pair.preferred:.0%} of {len(pair.annotators)}"
    tied = pair.preferred == 0.5 and not pair.rating_gap
    chosen, rejected = ("tied", "tied") if tied else ("chosen", "rejected")
    marks = f" [{', '.join(item.prompt.marks)}]" if item.prompt.marks else ""
    return Group(
        Panel(
            _shown(prompt_text(item.prompt.messages)), title=Text(f"prompt{marks} ({pair.split})"), title_align="left"
        ),
        Panel(
            _shown(item.chosen.text),
            title=Text(f"{chosen}: {pair.chosen_policy}"),
            title_align="left",
            border_style="green",
        ),
        Panel(
            _shown(item.rejected.text),
            title=Text(f"{rejected}: {pair.rejected_policy}"),
            title_align="left",
            border_style="red",
        ),
        Columns([Text(f"{foot}; {gaps}" if gaps else foot, style="dim")]),
        Text(),
    )
