"""Runs benchmarks as users run them, at their smallest, and reads their tables."""

import csv
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def run(benchmark, folder, *flags):
    """Runs benchmarks/<benchmark>.py with `--smoke`.

    Returns:
        What it prints, and the lines of the table that it writes, a list of dict.
    """
    table = folder / "results" / "table.csv"  # no such folder yet
    script = CHECKOUT / "benchmarks" / f"{benchmark}.py"
    command = [sys.executable, str(script), "--smoke", f"--output={table}", *flags]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    with open(table, newline="", encoding="utf-8") as file:
        return ended.stdout, list(csv.DictReader(file))
