r"""Published model sizes beside ours.

    python recipes/model_sizes.py                      # some minutes on 2 cores
    python recipes/model_sizes.py --csv=sizes.csv
    python recipes/model_sizes.py --models=resnet152   # some rows only

Builds every model in `ROWS`, counts parameters and FLOPs with the batch norms folded,
as EnsembleNet section 4 does, and compares them with what the paper prints: a figure
is reproduced when ours, rounded to as many digits, prints the same. Exits with 1 when
one that is claimed as reproduced is not.

What a paper's figure leaves out is counted beside it: the FLOPs of Table 2 are those
after the pooling over frames, so the whole model's for 25 and 300 frames follow.

Result: EnsembleNet Tables 1 and 2, twelve figures of twelve.
"""

import csv
import gc
import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout

from absl import app, flags
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from zoo import frame_inputs

FLAGS = flags.FLAGS
flags.DEFINE_string("csv", None, "File to write the figures to as well.")
flags.DEFINE_list("models", [], "Names of the models to compare; default: all.")

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
QUANTITIES = ("parameters", "flops")
COUNTS = {"folded": "parameters", "trainable": "trainable_parameters"}


@dataclass(frozen=True)
class Row:
    """One published model: where its sizes are printed, and how.

    Attributes:
        source: paper and table.
        model: name in the zoo.
        parameters, flops: as printed, such as "60.1M"; None where nothing is printed.
        reproduced: the quantities that ours are claimed to print alike.
        count: which parameters the figure counts, a key of `COUNTS`.
        frames: numbers of frames to count the FLOPs of the whole model for, where
            those printed leave out the layers before the pooling.
    """

    source: str
    model: str
    parameters: str | None = None
    flops: str | None = None
    reproduced: tuple[str, ...] = QUANTITIES
    count: str = "folded"
    frames: tuple[int, ...] = ()


ROWS = (
    Row("EnsembleNet, Table 1a", "resnet152", "60.1M", "21.8B"),
    Row("EnsembleNet, Table 1a", "resnet152_2heads", "58.2M", "21.0B"),
    Row("EnsembleNet, Table 1b", "se_resnet152", "66.7M", "21.9B"),
    Row("EnsembleNet, Table 1b", "se_resnet152_2heads", "64.5M", "21.1B"),
    Row("EnsembleNet, Table 2", "dbof", "229M", "415M", frames=(25, 300)),
    Row("EnsembleNet, Table 2", "dbof_2heads", "226M", "410M", frames=(25, 300)),
    # The paper says "less than 80M"; this is what its authors' code adds up to, gate
    # and classifier included. So it is no figure that could be reproduced.
    Row("NeXtVLAD, by its code", "nextvlad", "88.9M", reproduced=(), count="trainable"),
)


@dataclass(frozen=True)
class Cell:
    """One printed figure and ours; `paper` is None where nothing is printed."""

    source: str
    model: str
    quantity: str
    paper: str | None
    ours: int
    ours_printed: str
    reproduced: bool
    claimed: bool

    @property
    def verdict(self):
        if self.paper is None:
            return "left out there"
        if self.claimed:
            return "reproduced" if self.reproduced else "MISSED"
        return "same" if self.reproduced else "known gap"


def printed_like(value, paper):
    """`value` in the unit and with the decimals of a printed figure.

    >>> printed_like(60_117_096, "60.1M"), printed_like(415_099_000, "415M")
    ('60.1M', '415M')
    """
    match = re.fullmatch(r"\d+(?:\.(\d+))?([KMB]?)", paper)
    if match is None:
        raise ValueError(
            "`paper` must be a number with one of the units K, M, B or none. "
            f"Received: paper={paper!r}"
        )
    decimals, unit = len(match[1] or ""), match[2]
    return f"{value / UNITS[unit]:.{decimals}f}{unit}"


def compare(row, profile):
    """Returns a `Cell` for every figure that the row's paper prints."""
    ours = {
        "parameters": getattr(profile, COUNTS[row.count]),
        "flops": profile.flops,
    }
    cells = []
    for quantity in QUANTITIES:
        paper = getattr(row, quantity)
        if paper is not None:
            shown = printed_like(ours[quantity], paper)
            same, claimed = shown == paper, quantity in row.reproduced
            figures = (paper, ours[quantity], shown, same, claimed)
            cells.append(Cell(row.source, row.model, quantity, *figures))
    return cells


def measure(row):
    """Returns the row's cells and what the FLOPs leave out, as {operation: times}."""
    keras.backend.clear_session()
    gc.collect()  # of the model before: these are large
    model = zoo.build(row.model)
    profile = eh.profile(model, fold_batch_norm=True)
    left_out = {}
    for item in profile.uncounted:
        left_out[item.op_type] = left_out.get(item.op_type, 0) + 1
    cells = compare(row, profile)
    for frames in row.frames:
        gc.collect()
        shape = frame_inputs.input_shape(model, frames)
        flops = eh.profile(model, input_shape=shape).flops
        figures = (None, flops, printed_like(flops, row.flops), False, False)
        quantity = f"flops, {frames} frames"
        cells.append(Cell(row.source, row.model, quantity, *figures))
    return cells, left_out


def table_of(cells):
    """The cells as a table of at most 80 characters a line, grouped by source."""
    table = Table(
        title="Published sizes and ours, batch norm folded, per example",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model", no_wrap=True)
    table.add_column("quantity")
    for heading in ("paper", "ours", "exactly"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for source, group in itertools.groupby(cells, key=lambda cell: cell.source):
        table.add_section()
        table.add_row(source, style="bold")
        for cell in group:
            table.add_row(
                *(cell.model, cell.quantity, cell.paper or "", cell.ours_printed),
                *(f"{cell.ours:,}", cell.verdict),
                style="red" if cell.claimed and not cell.reproduced else None,
            )
    return table


def write_csv(cells, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("source", "model", "quantity", "paper", "ours", "verdict"))
        for cell in cells:
            figures = (cell.paper, cell.ours, cell.verdict)
            writer.writerow((cell.source, cell.model, cell.quantity, *figures))


def chosen_rows(models):
    known = [row.model for row in ROWS]
    for model in models:
        if model not in known:
            raise app.UsageError(
                f"`models` must be among {', '.join(known)}. Received: {model}"
            )
    return [row for row in ROWS if not models or row.model in models]


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    # A file or a pipe has no width of its own; rich would take 80 columns.
    width = None if sys.stdout.isatty() else 110
    console, cells = Console(width=width), []
    for row in track(
        chosen_rows(FLAGS.models), "Building and counting", console=console
    ):
        added, left_out = measure(row)
        cells += added
        if left_out:
            names = ", ".join(f"{times} {name}" for name, times in left_out.items())
            console.print(f"{row.model}: not in the FLOPs: {names}")
    console.print(table_of(cells))
    claimed = [cell for cell in cells if cell.claimed]
    right = [cell for cell in claimed if cell.reproduced]
    console.print(
        f"{len(right)} of {len(claimed)} figures claimed as reproduced print the same."
    )
    if FLAGS.csv:
        write_csv(cells, FLAGS.csv)
    return 0 if len(right) == len(claimed) else 1


if __name__ == "__main__":
    app.run(main)
