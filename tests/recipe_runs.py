"""Recipes run as a user runs them, and what their runs left."""

import json
import subprocess
import sys

from tests.conftest import CHECKOUT


def run_recipe(name, *arguments):
    """What a recipe printed; fails with its errors where it did."""
    command = [sys.executable, CHECKOUT / "recipes" / f"{name}.py", *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=CHECKOUT, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout


def result_of(folder):
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def losses_of(folder):
    """The training losses that a run logged."""
    return [r["train_loss"] for r in records_of(folder) if "train_loss" in r]
