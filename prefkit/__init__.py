"""Professional principles to preference data, preference data to better models.

The way the data goes, and what stands where:

    rubric.py                           what "better" means
    rubric_files.py  rubric_yaml.py     principles/*.yaml, found, read, validated
        |
    importing/                          files from outside -> prompts, responses, judgements
        |
    prompts/                            scrubbing, screening
        |
    generating/                         policies answer prompts -> responses
        |
    judging/                            judges rate, compare, choose -> judgements; audits
        |
    annotation/                         people do, on a page: what to ask, blinded; answers -> judgements
        |
    agreement/                          whether people agree with each other, and judges with people
        |
    pairs/                              judgements -> pairs.parquet -> dataset/
        |
    training/                           pairs -> reward models: trained, frozen, scored, served, measured
        |
    policies/                           pairs, reward models -> policies: trained, sampled, looked at, measured
        |
    evaluation/                         judgements, rewards -> win rates, rankings; the report of a run

    planning/                           what all of this would take, before anything is spent
    cluster/                            the same stages on many machines, with Ray

    rows/                               files of other tools, row by row
    models/                             chat models behind one interface; the engine that asks them
    records.py  run.py  durable.py      the records, the run folder, files that survive a crash
    parts.py  columnar.py               records in parts of Parquet, and as columns
    store.py  lease.py                  folders anywhere, such as buckets; one writer at a time
    working_copy.py  converting.py      a run elsewhere, worked on here; JSONL to parts and back
    by_prompt.py  near_duplicates.py    prompts with their responses; texts that say the same
    marking.py  language.py             what makes a text unfit to be learned from; what language it is in
    status.py  spending.py              what a run holds, what it took
    resampling.py                       figures with intervals, by drawing prompts again
    svg.py  cards.py                    what pictures are drawn with, and model cards written with
    errors.py  interrupts.py            messages; Ctrl-C
    garbage.py                          fewer searches for it, in a program that loads large libraries
    demo.py  cli/                       the sample, the commands

Imports go from ``cli`` to ``cluster`` to the stage folders to the rest. The stage folders do not import each other;
they meet in the records. Only ``policies`` uses ``training``, and ``planning`` the stages that it plans. ``importing``,
``training``, ``policies`` and ``evaluation`` read files of others through ``rows``; ``generating`` and ``judging`` ask
``models``; neither imports a stage.
"""

__version__ = "0.1.0"
