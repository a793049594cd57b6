"""``python -m prefkit``."""

from prefkit.cli import main

main()
