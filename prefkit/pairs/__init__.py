"""Judgements to preference pairs to a dataset that trl reads."""
