"""How good rewards are, from the rewards of single pairs; never from means of batches.

sources.py          the pairs that are measured on, and those that are fitted on
table.py            pairs of responses by index, and what a scorer says of the responses
scorers.py          models and baselines, with their rewards
accuracy.py         who is put first: accuracy, area under the curve; with length or policy matched; length
calibrating.py      whether probabilities hold: Brier, log-loss, calibration error; the temperature that mends them
best_of.py          what the best of n by reward is worth
together.py         several models: their mean, and their disagreement as doubt
subgroups.py        accuracy by gap, length, principle, topic, policies, disagreement
figures.py          all of that for some scorers, with intervals
report.py           what comes of it: the records, and figures in words
words.py            what the figures mean, in sentences
learning_curve.py   accuracy over the number of training pairs
picture.py          the same as SVG
rewardbench.py      the scores of RewardBench 1 and 2
evaluating.py       a run or a file, and models: read, scored, measured beside the baselines
"""
