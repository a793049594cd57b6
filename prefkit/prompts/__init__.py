"""Prompts: from outside into the run folder, scrubbed, screened, without duplicates."""
