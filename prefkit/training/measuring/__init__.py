"""How good rewards are, from the rewards of single pairs; never from means of batches.

table.py            pairs of responses by index, and what a scorer says of the responses
accuracy.py         who is put first: accuracy, area under the curve; with length or policy matched; length
calibrating.py      whether probabilities hold: Brier, log-loss, calibration error; the temperature that mends them
best_of.py          what the best of n by reward is worth
together.py         several models: their mean, and their disagreement as doubt
report.py           all of that for some scorers: figures with intervals, by groups of pairs
words.py            what the figures mean, in sentences
picture.py          the same as SVG
learning_curve.py   accuracy over the number of training pairs
rewardbench.py      the scores of RewardBench 1 and 2
evaluating.py       a run or a file, and models: read, scored, measured beside the baselines
"""
