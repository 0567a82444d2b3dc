r"""Published model sizes beside ours.

    python recipes/model_sizes.py --all                # some minutes on 2 cores
    python recipes/model_sizes.py --csv=sizes.csv
    python recipes/model_sizes.py --models=resnet152   # some rows only

Builds every model in `ROWS`, counts parameters and FLOPs with the batch norms folded,
as EnsembleNet section 4 does, or as a row says that its paper does, and compares them
with what is printed: a figure is reproduced when ours, rounded to as many digits,
prints the same, or, where the paper says "about", when ours is within 1 %. Exits with 1
when one that is claimed as reproduced is not. For one that is not claimed the reason
follows the table.

What a paper's figure leaves out is counted beside it: the FLOPs of Table 2 are those
after the pooling over frames, so the whole model's for 25 and 300 frames follow.

Result: EnsembleNet Tables 1 to 3, sixteen figures of sixteen; ONE, all but the 505M
FLOPs of ResNet-110; joint training, eight of eight; Why M heads, not the one there is.
"""

import csv
import gc
import itertools
import math
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
from recipes.published_sizes import COUNTS, QUANTITIES, ROWS
from zoo import frame_inputs

FLAGS = flags.FLAGS
flags.DEFINE_string("csv", None, "File to write the figures to as well.")
flags.DEFINE_list("models", [], "Names of the models to compare; default: all.")
flags.DEFINE_bool("all", False, "Compare all models, as without --models.")

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "%": 0.01}
ABOUT = 0.01  # what a figure printed as "about" may be off by, relative


@dataclass(frozen=True)
class Cell:
    """One printed figure and ours; `paper` is None where nothing is printed."""

    source: str
    model: str
    quantity: str
    paper: str | None
    ours: int | float
    ours_printed: str
    reproduced: bool
    claimed: bool
    reason: str = ""

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
    decimals, unit = len((_parts(paper)[1]).partition(".")[2]), _parts(paper)[2]
    return f"{value / UNITS[unit]:.{decimals}f}{unit}"


def prints_alike(value, paper):
    """Whether a printed figure is right for `value`.

    >>> prints_alike(816_640, "815K"), prints_alike(816_640, "~815K")
    (False, True)
    """
    about, digits, unit = _parts(paper)
    if about:
        return abs(value / (float(digits) * UNITS[unit]) - 1) <= ABOUT
    return printed_like(value, paper) == paper


def _parts(paper):
    """ "~815K" as ("~", "815", "K")."""
    match = re.fullmatch(r"(~?)(\d+(?:\.\d+)?)([KMB%]?)", paper)
    if match is None:
        raise ValueError(
            "`paper` must be a number with one of the units K, M, B, % or none. "
            f"Received: paper={paper!r}"
        )
    return match.groups()


def compare(row, profile, saved=None):
    """Returns a `Cell` for every figure that the row's paper prints.

    Args:
        row: `Row`.
        profile: what `eh.profile` gives, or `Counted`.
        saved: share of parameters, where the row has one.
    """
    ours = {
        "parameters": getattr(profile, COUNTS[row.count]) if row.parameters else None,
        "flops": profile.flops,
        "saved": saved,
    }
    changes = ", ".join(f"{key}={value}" for key, value in row.changes.items())
    model = f"{row.model} ({changes})" if changes else row.model
    cells = []
    for quantity in QUANTITIES:
        paper = getattr(row, quantity)
        if paper is not None:
            shown = printed_like(ours[quantity], paper)
            same = prints_alike(ours[quantity], paper)
            figures = (paper, ours[quantity], shown, same, quantity in row.reproduced)
            cells.append(Cell(row.source, model, quantity, *figures, row.reason))
    return cells


@dataclass(frozen=True)
class Counted:
    """In place of a profile, where no more than this is asked for."""

    trainable_parameters: int
    flops: int | None = None
    uncounted: tuple = ()


def profiled(row, model):
    """The profile of a row's model; large ones take minutes, so only where needed."""
    if row.count != "trainable" or (row.flops and not row.products):
        return eh.profile(model, fold_batch_norm=True)
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    return Counted(trainable, products_of(model) if row.flops else None)


def products_of(model):
    """FLOPs of the convolutions and dense layers alone, two per multiply-add.

    Batch norms stay, so that convolutions have no biases to count.
    """
    rows = eh.profile(model, fold_batch_norm=False).rows
    return sum(row.flops for row in rows if row.type in ("Conv2D", "Dense"))


def share_saved(model):
    """Share of parameters that a model has fewer than its heads' networks apart."""
    trunk, heads = model.trunk.count_params(), [h.count_params() for h in model.heads]
    return 1 - (trunk + sum(heads)) / sum(trunk + head for head in heads)


def measure(row):
    """Returns the row's cells and what the FLOPs leave out, as {operation: times}."""
    keras.backend.clear_session()
    gc.collect()  # of the model before: these are large
    model = zoo.build(row.model, **row.changes)
    profile = profiled(row, model)
    left_out = {}
    for item in profile.uncounted:
        left_out[item.op_type] = left_out.get(item.op_type, 0) + 1
    cells = compare(row, profile, share_saved(model) if row.saved else None)
    for frames in row.frames:
        gc.collect()
        shape = frame_inputs.input_shape(model, frames)
        flops = eh.profile(model, input_shape=shape).flops
        figures = (None, flops, printed_like(flops, row.flops), False, False)
        quantity = f"flops, {frames} frames"
        cells.append(Cell(row.source, row.model, quantity, *figures))
    return cells, left_out


def table_of(cells):
    """The cells as a table that folds into 80 characters, grouped by source."""
    table = Table(
        title="Published sizes and ours, batch norm folded, per example",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("model", overflow="fold")
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
                *(exactly(cell.ours), cell.verdict),
                style="red" if cell.claimed and not cell.reproduced else None,
            )
    return table


def exactly(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:.2%}"


def write_csv(cells, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ("paper", "ours", "verdict", "reason")
        writer.writerow(("source", "model", "quantity", *columns))
        for cell in cells:
            reason = "" if cell.claimed else cell.reason
            figures = (cell.paper, cell.ours, cell.verdict, reason)
            writer.writerow((cell.source, cell.model, cell.quantity, *figures))


def chosen_rows(models):
    if FLAGS.all and models:
        raise app.UsageError("`models` must be left out with --all.")
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
    for cell in cells:
        if cell.reason and not cell.claimed:
            console.print(f"{cell.model}, {cell.quantity}: {cell.reason}.")
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
