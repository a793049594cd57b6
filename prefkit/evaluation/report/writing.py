"""The report's files, all of them new or all of them as they were.

Writes  FOLDER/index.html    the page
        FOLDER/report.json   all figures and examples
        FOLDER/summary.md    the main figures for a card, without any text
"""

from __future__ import annotations

from pathlib import Path

from prefkit.durable import Together, explained_disk_errors, make_folders, replacing
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.page import page
from prefkit.evaluation.report.summary import summary

FOLDER = "report"


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write the files, and give their paths.

    Raises:
        RunError: the folder cannot be written, or the disk is full; then nothing is changed.
    """
    files = {"index.html": page(report), "report.json": report.as_json(), "summary.md": summary(report).encode()}
    make_folders(folder)
    together = Together()
    try:
        with explained_disk_errors(folder):
            for name, content in files.items():
                with replacing(folder / name, together.put) as file:
                    file.write(content)
            together.finish()
    except BaseException:
        together.undo()
        raise
    return [folder / name for name in files]
