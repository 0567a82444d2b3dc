"""What recipes of short runs leave: all of them in one file."""

import json

from tests.script_runs import run_script


def run_smoke(name, folder):
    """(what the smoke preset printed, its workdir)."""
    flags = ("--preset=smoke", "--workdir=out")
    ended = run_script(f"recipes/{name}.py", *flags, cwd=folder)
    return ended.stdout, folder / "out"


def records_of(workdir):
    """List of the runs recorded in a workdir, dicts."""
    lines = (workdir / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
