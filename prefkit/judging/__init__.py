"""Asking models which response is better, and whether their answers can be trusted."""
