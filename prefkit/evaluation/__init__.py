"""How good policies are: who was preferred to whom, how often, and how sure that is.

Who was preferred
    outcomes.py  outcome_rows.py  outcome_table.py         of a run or its rewards, as arrays
    alpaca_files.py  comparison_files.py                   of files: AlpacaEval's, and tables of comparisons
How often
    intervals.py  rates.py  win_rates.py                   win-rate: rates with intervals, by judge, topic, length
    correcting.py                                          a judge's rate made right by people's labels on a part
    planning.py                                            how many prompts an interval or a test takes
    length_control.py  length_rows.py  length_fit.py       if both wrote as much; styles.py  also as many lists
Among many
    rankings.py  strengths.py  tallies.py  draws.py        leaderboard: Bradley-Terry, its intervals
    boards.py  board_styles.py  board_shifts.py            boards by principle and judge; alike in form; two judges
    separations.py  elo.py                                 who is told apart; ratings by order
Of two, by scores
    studies.py  paired_scores.py                           win-rate --study: differences of scores, with tests
On one page
    report/                                                report
"""
