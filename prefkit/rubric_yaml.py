"""YAML as plain values, with the line on which each of them stands.

Mappings, lists, texts, numbers, true and false; anchors, aliases and tags (``&x``, ``*x``, ``!x``) are refused before
anything is made of them: a rubric has no use for them, and they can be cyclic, explode or run code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prefkit.errors import RubricError

_DEEP = "Start from a working one: `prefkit rubric new NAME`."
_QUOTES = "A text with a colon, a # or quotes needs quotes around it, or `>` and an indented block."
_SPACES = "Indent with spaces; YAML knows no tabs there."
_VALUES = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "null")}


def load_yaml(text: str, where: str | Path) -> tuple[Any, dict[str, int]]:
    """A YAML document as plain values, and the line on which each path (``principles[0].id``) stands."""
    try:
        loader = _Loader(text, where)
        node = loader.get_single_node()
        return None if node is None else loader.plain(node, ""), loader.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = error.problem or str(error)
        remedy = _SPACES if "\\t" in problem else _QUOTES
        raise RubricError(f"{where}:{line}", f"broken YAML: {problem}", "valid YAML", remedy) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise RubricError(
            f"{where}:{line}", f"the character U+{ord(text[error.position]):04X}", "printable text", "Remove it."
        ) from None
    except RecursionError:
        raise RubricError(where, "lists or mappings too deep in one another", "a few levels", _DEEP) from None
    except (OverflowError, ValueError) as error:
        raise RubricError(where, f"YAML that cannot be read ({error})", "plain values", _QUOTES) from None


class _Loader(yaml.SafeLoader):
    """YAML as plain values; ``lines`` keeps the line on which each path stands."""

    def __init__(self, text: str, where: str | Path) -> None:
        super().__init__(text)
        self.where = where
        self.lines: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse anchors, aliases and tags before anything is made of them."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            remedy = "Write the value out, or quote the text."
            raise self._refusal(event.start_mark, "a YAML anchor or alias (& or *)", "plain values", remedy)
        if event.tag:
            raise self._refusal(event.start_mark, f"the YAML tag {event.tag}", "plain values", "Remove it.")
        return super().compose_node(parent, index)

    def plain(self, node: yaml.Node, path: str) -> Any:
        """The node at ``path`` as a dict, list, text, number, bool or None."""
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(child, f"{path}[{index}]") for index, child in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(node)
        mapping: dict[Any, Any] = {}
        for key, child in node.value:
            name = self._scalar(key) if isinstance(key, yaml.ScalarNode) else None
            if name is None or isinstance(name, bool):
                remedy = "As keys, yes, no, on, off and null need quotes around them."
                raise self._refusal(key.start_mark, "a key that is not a word", "a word or a number", remedy)
            if name in mapping:
                raise self._refusal(
                    key.start_mark, f"the key {key.value!r} a second time", "each key once", "Remove one of the two."
                )
            mapping[name] = self.plain(child, f"{path}.{key.value}" if path else key.value)
        return mapping

    def _scalar(self, node: yaml.Node) -> Any:
        unprintable = self.NON_PRINTABLE.search(node.value)
        if unprintable:
            found = f"the character U+{ord(unprintable[0]):04X}"
            raise self._refusal(node.start_mark, found, "printable text", "Remove it.")
        if node.tag not in _VALUES:
            return node.value
        try:
            value = self.construct_object(node)
            if isinstance(value, int) and abs(value) > 2**53:
                raise OverflowError
        except (OverflowError, ValueError):
            found, remedy = f"the number {node.value[:40]}", "Put quotes around it if it is a text."
            raise self._refusal(node.start_mark, found, "a number up to 2**53", remedy) from None
        return value

    def _refusal(self, mark: yaml.Mark, found: str, expected: str, remedy: str) -> RubricError:
        return RubricError(f"{self.where}:{mark.line + 1}", found, expected, remedy)
