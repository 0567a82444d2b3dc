"""What every benchmark leaves behind: a table, and a CSV file that says how it came."""

import csv
import os
from pathlib import Path

from absl import flags
from rich import box
from rich.table import Table

from ensemble_heads import provenance


def busy_before():
    """How many processes ran in the last minute; "" where that is not known.

    Read before the work: CPU ratios can be trusted on a busy machine, others less.
    """
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else ""


def table(title, names):
    """An empty `rich.table.Table` whose first column holds names."""
    made = Table(
        title=title, title_justify="left", box=box.SIMPLE, padding=0, show_edge=False
    )
    for index, name in enumerate(names):
        made.add_column(name, justify="right" if index else "left", no_wrap=True)
    return made


def path_of(benchmark, output=None):
    """Where the results belong: `output`, or results/<benchmark>_<line>.csv."""
    if output:
        return Path(output)
    folder = Path(__file__).resolve().parent / "results"
    return folder / f"{benchmark}_{provenance.tensorflow_line()}.csv"


def define_output(benchmark):
    """Defines the flag `--output`, which `path_of` takes."""
    usual = f"benchmarks/results/{benchmark}_<line>.csv"
    flags.DEFINE_string("output", None, f"CSV file to write. Default: {usual}")


def keep(path, lines, console):
    """As `write`, and says where they are."""
    write(path, lines)
    console.print(f"Written to {path}", soft_wrap=True)


def write(path, lines):
    """Writes a list of dicts as a CSV file; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
