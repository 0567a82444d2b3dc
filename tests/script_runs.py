"""Scripts of the checkout, run as a user runs them, and what their runs left."""

import json
import subprocess
import sys

from tests.conftest import CHECKOUT


def run_script(path, *arguments, cwd=CHECKOUT, code=0):
    """The ended process of a script; fails with its errors if it ends otherwise.

    Args:
        path: str, in the checkout.
        *arguments: str.
        cwd: folder to run it in.
        code: int, the exit code that it must have.
    """
    command = [sys.executable, str(CHECKOUT / path), *arguments]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=300
    )
    assert ended.returncode == code, ended.stderr[-4000:]
    return ended


def run_recipe(name, *arguments):
    """What a recipe printed."""
    return run_script(f"recipes/{name}.py", *arguments).stdout


def result_of(folder):
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").open()]


def losses_of(folder):
    """The training losses that a run logged."""
    return [r["train_loss"] for r in records_of(folder) if "train_loss" in r]
