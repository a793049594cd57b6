"""What goes wrong for a reason the user can mend: a `Problem`. All else is a bug of ours and shows its traceback."""

from __future__ import annotations


class Problem(Exception):
    """A failure explained in three parts; the command line prints it bare and ends with exit code 1.

    Args:
        found: what is the case, with the path or address it is about.
        expected: what would have been right.
        remedy: the next step for the user, a sentence.
    """

    def __init__(self, found: str, expected: str, remedy: str) -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"found {found}; expected {expected}.\n  {remedy}")
