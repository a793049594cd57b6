"""Preference pairs to reward models: trained, frozen, scored, served, measured.

What is read
    groups.py  kept_pairs.py                                 a prompt, its responses, the pairs among them
    examples.py  run_examples.py                             from a run
    file_examples.py  preference_files.py  spool.py          from a file
    tokens.py  encodings.py                                  the same in tokens, each text encoded once
What is trained
    bases.py  building.py                                    from a base to a classifier with a head
    packing.py  attention.py  packed.py                      rows in which each shared beginning is read once
    paired_comparison.py  losses.py  heads.py  policy_effects.py    what pairs say about rewards
    preflight.py                                             what would fail in silence
    steps.py  packed_trainer.py  reward_trainer.py  arguments.py    trl's trainer, a batch being a step of whole prompts
    training.py  settings.py  training_pairs.py  begun.py  finishing.py  held_out.py  trained_report.py    train-rm
    token_store.py  machine.py  checkpoints.py               the same on the disk; many processes, and other ones later
What is fitted in minutes
    features.py  linear.py  head_fitting.py                  a linear head on hidden states
    frozen.py  frozen_training.py                            a reward model of it
    baselines.py                                             length, words, who wrote it
What comes of it
    reward_model.py  reward_info.py  trained.py  card.py  hub.py    the folder, and rewards from it
    scoring.py                                               for a run or a file
    serving/                                                 over HTTP
    measuring/                                               how good rewards are
"""
