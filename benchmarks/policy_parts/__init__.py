"""Proofs of single parts of policies, each a command of its own."""
