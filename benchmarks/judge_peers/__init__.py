"""How others ask 5,000 questions: a script for each, run by ``benchmarks.judge`` in a virtual environment of its own.

    python SCRIPT PORT REQUESTS CONCURRENCY QUESTIONS

QUESTIONS is a JSON file {"messages": [[{"role", "content"}, ...], ...], "schema": {...}}. A script prints one line of
JSON: {"requests", "seconds", "cpu_seconds"}, without the time to import and to read the file. What it needs stands at
its head, as PEP 723 has it.
"""
