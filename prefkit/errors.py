"""What goes wrong for a reason the user can mend.

    PrefkitError            where, what was found, what was expected, what to do
    ├── InputError          a file from outside: broken, or not the shape asked for
    ├── RubricError         a rubric's YAML
    ├── RecordError         a line of a run's own files
    └── RunError            the run folder: missing, locked, disk full, nothing to work on

The command line prints these bare and exits with code 1. Anything else is a bug of ours and shows its traceback; a
wrong argument from Python is a ``ValueError``.
"""

from __future__ import annotations


class PrefkitError(Exception):
    """A failure that its message explains in four parts.

    Args:
        where: file, line, field, as far as they are known: ``ratings.csv:41: empathy``.
        found: what stands there.
        expected: what would have been right.
        remedy: the next step for the user, a sentence.
    """

    def __init__(self, where: object, found: str, expected: str, remedy: str) -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{self.where}: found {found}; expected {expected}.\n  {remedy}")

    def __reduce__(self) -> tuple[type[PrefkitError], tuple[str, str, str, str]]:
        return type(self), (self.where, self.found, self.expected, self.remedy)


class InputError(PrefkitError):
    """A file from outside is broken, or is not the shape asked for."""


class RubricError(PrefkitError):
    """A rubric's YAML says something that a rubric cannot say."""


class RecordError(PrefkitError):
    """A line of a run's own files is not the record it should be."""


class RunError(PrefkitError):
    """The run folder is missing, locked, full, or holds nothing to work on."""
