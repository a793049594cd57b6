"""A run on one page: what ``prefkit report`` gathers, draws and writes.

    facts.py      what the run holds, counted          files.py     what other commands left in it
    flow.py       what was kept at each stage, and why agreement.py what is shown of agreement
    rates.py      win rates, board, lengths            examples.py  answers side by side
    limits.py     what was not measured                paired.py    another run beside it
    gathering.py  all of these: the Report, which report.json holds

    words.py      numbers in words                     markup.py    HTML, with everything escaped
    drawing.py    plots of rows                        panels.py    plots of lines
    training_log.py  the log of a training, as it is drawn

    part_wins.py  part_board.py  part_trust.py  part_rewards.py  part_policies.py  the parts of the page
    page.py       the page                             summary.py   the same in Markdown, for cards
    writing.py    index.html, report.json, summary.md

page.html, page.css and page.js are what the page is made from. No figure is computed for the page alone: rates come
from ``win_rates`` and ``rankings``, agreement from ``prefkit agree``, the rest from what other commands wrote.
"""
