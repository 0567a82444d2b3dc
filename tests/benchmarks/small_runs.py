"""Runs benchmarks as users run them, at their smallest, and reads their tables."""

import csv

from tests.script_runs import run_script


def run(benchmark, folder, *flags):
    """Runs benchmarks/<benchmark>.py with `--smoke`.

    Returns:
        What it prints, and the lines of the table that it writes, a list of dict.
    """
    table = folder / "results" / "table.csv"  # no such folder yet
    flags = ("--smoke", f"--output={table}", *flags)
    ended = run_script(f"benchmarks/{benchmark}.py", *flags, cwd=folder)
    with open(table, newline="", encoding="utf-8") as file:
        return ended.stdout, list(csv.DictReader(file))
