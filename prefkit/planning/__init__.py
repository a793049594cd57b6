"""What a run would take, before anything is spent; and that beside what it then took.

What is planned
    rounds.py                           rounds of generating and judging: as the run had them, or as they are named
    stand_ins.py  responses.py          answers that are not there yet, so that questions about them are counted
What it comes to
    asked.py  lengths.py                each question as its stage would ask it; tokens, as they were measured
    throughput.py                       tokens a second of a GPU, from a table of the user's own
    disk.py                             bytes a record, JSONL and Parquet
    plan.py  lines.py  ranges.py        calls, tokens, cost, GPU hours, disk: each with a range
    comparing.py                        the plan beside what was used since

This folder stands above the stages it plans: it imports generating, judging and training, and none of them it.
"""
