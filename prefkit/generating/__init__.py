"""Asking policies to answer prompts."""
