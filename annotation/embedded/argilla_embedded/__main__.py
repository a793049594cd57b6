"""``python -m argilla_embedded``, the same as ``argilla-embedded``."""

from argilla_embedded.cli import main

main()
