"""Runs recipes as users run them, and reads what they leave."""

import json
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def run(script, *arguments, cwd):
    """The ended process of recipes/<script>.py."""
    command = [sys.executable, str(CHECKOUT / "recipes" / f"{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def run_smoke(script, folder):
    """(what the smoke preset printed, its workdir)."""
    ended = run(script, "--preset=smoke", "--workdir=out", cwd=folder)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended.stdout, folder / "out"


def records_of(workdir):
    """List of the runs recorded in a workdir, dicts."""
    lines = (workdir / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
