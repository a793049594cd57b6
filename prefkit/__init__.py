"""Professional principles to preference data, preference data to better models.

The way the data goes, and what stands where:

    rubric.py                           what "better" means
    rubric_files.py  rubric_yaml.py     principles/*.yaml, found, read, validated
        |
    importing/                          files from outside -> prompts, responses, judgements
        |
    prompts/                            scrubbing, screening
        |
    pairs/                              judgements -> pairs.parquet -> dataset/

    records.py  run.py  durable.py      the records, the run folder, files that survive a crash
    near_duplicates.py  status.py       texts that say the same; what a run holds
    errors.py  demo.py  cli/            messages, the sample, the commands

Imports go from ``cli`` to the stage folders to the rest. The stage folders do not import each other; they meet in the
records.
"""

__version__ = "0.1.0"
