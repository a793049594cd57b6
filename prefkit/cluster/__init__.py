"""The stages of a run on a cluster of Ray: the local engine's own functions, block by block, on many machines.

    cluster.py     joins a cluster; work over many items in it
    by_prompt.py   records in the order of their prompts, sorted by Ray
    gathering.py   work on groups of pieces that come from many places
    blocks.py      a block of prompts with their responses, as a small run
    strangers.py   prompts that only records name
    held.py        which records there are already
    importing.py   files from outside -> prompts, responses, judgements
    import_job.py  import_lots.py   the rows of such a file; which of them hang together
    resolving.py   these to records
    scrubbing.py   placeholders for what identifies a person
    asking.py      policies answer, judges judge
    questions.py   what is asked about a block
    worker.py      asks it
    ledger.py      what the workers of such a round share: budget, reasons to stop, tally
    scoring.py     rewards
    duplicates.py  near-duplicates among all prompts
    pairs.py       judgements -> pairs, and the dataset

Records stand in a store as parts (``prefkit.parts``). A part that is written again takes its own place, so a block that
a dead worker had begun is simply done again. Keys of models are read from the environment of each worker.
"""
