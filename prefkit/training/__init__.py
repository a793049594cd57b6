"""Preference pairs to reward models: training, frozen baselines, scoring, evaluation."""
