"""Proofs of single parts of scale, each a command of its own."""
