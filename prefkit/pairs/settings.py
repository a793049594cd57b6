"""What the user chooses about pairs, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Strategy = Literal["gap", "best-worst", "all", "top-k", "comparisons"]
Format = Literal["conversational", "plain", "psychocounsel"]


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How judgements become pairs; the defaults are the paper's where it has any (arXiv:2502.19731)."""

    strategy: Strategy = "gap"
    """``gap``: every two responses to a prompt whose overall scores differ by ``min_gap``. ``best-worst``: the
    best against the worst. ``all``: every two that differ. ``top-k``: each of the ``top`` best against each of the
    others. ``comparisons``: by majority of the comparisons, whatever the ratings."""
    min_gap: float | None = None
    """In the unit of the rubric's overall score; None is 1.0 for ``gap`` and anything above 0 for the others."""
    top: int = 1
    aggregate: Literal["mean", "median", "trimmed"] = "mean"
    """Over annotators, for each principle; ``trimmed`` leaves out the lowest and the highest tenth."""
    z_scores: bool = False
    """Measure each annotator's scores in that annotator's own standard deviations from the own mean."""
    gates: bool = True
    orders: Literal["both", "any"] = "both"
    """Whether a model's comparison counts only where it was asked in both orders."""
    min_votes: int = 1
    ties: bool = False
    """For ``gap``, ``all`` and ``comparisons``: keep two responses of equal overall scores, or of whose comparisons
    nobody prefers either, as a pair too, preferred by one half."""
    max_chars: int | None = None
    max_tokens: int | None = None
    tokenizer: str | None = None
    near_identical: float = 0.95
    """Two responses at least this similar (normalised edit distance, 0 to 1) are not a pair."""
    per_prompt: int | None = None
    """At most so many pairs of one prompt: those of the largest gap."""
    test_size: float = 0.1
    """A share of the prompts below 1, or a number of prompts from 1."""
    validation_size: float = 0.0
    near_duplicates: float = 0.8
    """Prompts at least this similar (Jaccard, word shingles) stay on one side of the split."""
    seed: int = 0
    format: Format = "conversational"
    licence: str = "unknown"

    @property
    def needed_gap(self) -> float:
        """The smallest gap of a pair; 0 means any gap above 0."""
        if self.min_gap is not None:
            return self.min_gap
        return 1.0 if self.strategy == "gap" else 0.0


@dataclass
class PairReport:
    """What was found and where it went; every pair is in exactly one of ``dropped`` and ``kept``."""

    judgements: Counter[str] = field(default_factory=Counter)
    """Judgements read, by kind, and those that could not be used, by reason."""
    responses: Counter[str] = field(default_factory=Counter)
    selected: int = 0
    """Pairs that the strategy found, before any filter."""
    dropped: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    """Pairs in ``pairs.parquet``, by split."""
    tied: Counter[str] = field(default_factory=Counter)
    """Those of ``kept`` that are ties, by split; the dataset has none."""
    dataset: Counter[str] = field(default_factory=Counter)
    """Rows of the dataset, by split."""
    manifest: str = ""
    """One hash over the rubric, the records and the settings that made the dataset."""

    def add(self, other: PairReport) -> None:
        """Count what was found in another piece of the run."""
        for name, value in vars(self).items():
            if isinstance(value, Counter):
                value.update(getattr(other, name))
        self.selected += other.selected
