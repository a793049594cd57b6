"""Which policies are a judge's own: the same model, or one of the same family.

A family is known by how its models' names begin, whoever serves them: ``openai/gpt-4o`` and ``llm:chatgpt`` are kin. A
name that no list knows is a family with those that begin with the same letters (``smollm2-135m``, ``smollm-1.7b``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

BEGINNINGS = {
    "gpt": ("gpt", "chatgpt", "text-davinci", "davinci", "o1", "o3", "o4"),
    "claude": ("claude",),
    "gemini": ("gemini", "palm", "bard"),
    "gemma": ("gemma",),
    "llama": ("llama", "meta-llama", "codellama"),
    "qwen": ("qwen", "qwq"),
    "mistral": ("mistral", "mixtral", "ministral", "magistral"),
    "deepseek": ("deepseek",),
    "command": ("command", "aya"),
    "glm": ("glm", "chatglm"),
}
"""Family -> how the names of its models begin."""


def family_of(model: str) -> str:
    """The family of a model's name.

    >>> family_of("openai/gpt-4o"), family_of("ChatGPT"), family_of("smollm2-135m")
    ('gpt', 'gpt', 'smollm')
    """
    name = model.rpartition("/")[2].lower().replace("_", "-")
    for family, beginnings in BEGINNINGS.items():
        if name.startswith(beginnings):
            return family
    letters = re.match(r"[^\W\d_]+", name)
    return letters.group() if letters else name


@dataclass(frozen=True)
class Families:
    """Who is whose own; ``said`` is annotator -> policies, which takes the place of the names' beginnings."""

    said: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def is_own(self, judge: str, policy: str) -> bool:
        """Whether a policy is of the judge's family."""
        if judge in self.said:
            return policy in self.said[judge]
        return family_of(_model(judge)) == family_of(policy)

    def are_kin(self, judge: str, other: str) -> bool:
        """Whether another annotator is a model of the judge's family, whose verdicts say nothing about its bias."""
        if not other.startswith("llm:"):
            return False
        mine, theirs = self.said.get(judge), self.said.get(other)
        if mine is not None and theirs is not None:
            return bool(mine & theirs)
        return family_of(_model(judge)) == family_of(_model(other))


def _model(annotator: str) -> str:
    return annotator.partition(":")[2]
