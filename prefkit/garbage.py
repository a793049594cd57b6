"""Python's search for garbage, made rare for a program that loads large libraries.

Their hundreds of thousands of objects stay to the end. To look them through again and again while they are loaded, and
once more at the end, is a third of what it takes to load torch and transformers.
"""

from __future__ import annotations

import atexit
import gc

_NEW = 50_000
"""Objects that are made before the new ones are searched; Python's own number is 700."""


def search_rarely() -> None:
    """Search this process seldom, and not at its end. For programs: call it once, at their start."""
    gc.set_threshold(_NEW, 10, 10)
    atexit.register(gc.freeze)
