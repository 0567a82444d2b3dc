"""The records of a profile, and the tables they print as."""

import collections
import dataclasses
import io

from rich.console import Console
from rich.table import Table

from ensemble_heads.folding_plan import UnfoldedBatchNorm


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer of a profile.

    Attributes:
        name: str, the layer's name, after those of the models that it is nested in:
            `head_0/conv1`. `"(other)"` for what no layer makes.
        type: str, the layer's class.
        parameters: int; a shared layer's parameters are counted once.
        flops: int, FLOPs per example of all calls of the layer.
    """

    name: str
    type: str
    parameters: int
    flops: int


@dataclasses.dataclass(frozen=True)
class BranchCost:
    """One part of a multi-headed model: its trunk, or what a fork or a head adds.

    Attributes:
        name: str, as the rows of its layers begin: `"trunk"`, `"head_0"`, or in a tree
            `"branch_0.1"`, the second branch of the first one. `"(other)"` for the
            ensembler and what no layer makes.
        parameters: int.
        flops: int, FLOPs per example.
    """

    name: str
    parameters: int
    flops: int


@dataclasses.dataclass(frozen=True)
class Uncounted:
    """One operation that should cost FLOPs but is not in the count.

    Attributes:
        op_type: str, type of the TensorFlow operation, as `"Einsum"`.
        node: str, its name in the graph.
        layer: str, name of the row that it belongs to.
        reason: str, why it could not be counted.
    """

    op_type: str
    node: str
    layer: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Profile:
    """Size and cost of a model; `print` shows it as a table.

    Counts of parameters go by three names, since the literature mixes them:
    trainable, total (with the statistics of the batch norms) and folded (batch norms
    folded into the layers around them).

    Attributes:
        name: str, the model's name.
        parameters: int, parameters of the model that the rows describe: folded if
            `folded`, total otherwise.
        trainable_parameters: int, of the model as given.
        total_parameters: int, of the model as given.
        folded_parameters: int, or None if the batch norms were not folded.
        flops: int, floating-point operations per example at inference, a multiply-add
            counted as two; without the operations in `uncounted`.
        rows: tuple of `Row`; they sum to `parameters` and `flops`.
        branches: tuple of `BranchCost`, each of which is held and run once, stacked
            heads as one; of a multi-headed model they sum to `parameters` and
            `flops`, of others there are none.
        uncounted: tuple of `Uncounted`.
        folded: bool, whether the batch norms were folded first.
        unfolded_batch_norms: tuple of `eh.UnfoldedBatchNorm`, those that could not
            be folded.
    """

    name: str
    parameters: int
    trainable_parameters: int
    total_parameters: int
    folded_parameters: int | None
    flops: int
    rows: tuple[Row, ...]
    branches: tuple[BranchCost, ...]
    uncounted: tuple[Uncounted, ...]
    folded: bool
    unfolded_batch_norms: tuple[UnfoldedBatchNorm, ...]

    def __str__(self):
        console = Console(file=io.StringIO(), width=100, color_system=None)
        console.print(self)
        return console.file.getvalue().rstrip()

    def __rich_console__(self, console, options):
        yield _layer_table(self)
        if self.branches:
            yield _branch_table(self)
        yield _summary(self)
        if self.uncounted:
            yield _uncounted_table(self)
        if self.unfolded_batch_norms:
            yield _batch_norm_table(self)


def _layer_table(result):
    kind = "batch norm folded" if result.folded else "batch norm not folded"
    table = Table(title=f"{result.name}, {kind}")
    table.add_column("layer", overflow="fold")
    table.add_column("type", overflow="fold")
    _add_costs(table, result, [(row, (row.name, row.type)) for row in result.rows])
    return table


def _branch_table(result):
    table = Table(title="Branches")
    table.add_column("branch", overflow="fold")
    _add_costs(table, result, [(branch, (branch.name,)) for branch in result.branches])
    return table


def _add_costs(table, result, costs):
    """Adds a row for each pair of a `Row` or `BranchCost` and its first cells."""
    first = len(table.columns)
    for heading in ("parameters", "FLOPs per example"):
        table.add_column(heading, justify="right", overflow="fold")
    for cost, cells in costs:
        if cost.parameters or cost.flops:
            table.add_row(*cells, f"{cost.parameters:,}", f"{cost.flops:,}")
    table.add_section()
    cells = ["sum", *[""] * (first - 1)]
    table.add_row(*cells, f"{result.parameters:,}", f"{result.flops:,}")


def _summary(result):
    folded = result.folded_parameters
    parts = [
        f"{result.trainable_parameters:,} trainable",
        f"{result.total_parameters:,} total",
        *([] if folded is None else [f"{folded:,} folded"]),
    ]
    return f"Parameters: {', '.join(parts)}. FLOPs per example: {result.flops:,}"


def _uncounted_table(result):
    """Uncounted operations, grouped by type and reason."""
    groups = collections.defaultdict(list)
    for item in result.uncounted:
        groups[item.op_type, item.reason].append(item.layer)
    table = Table(title="NOT counted in the FLOPs")
    for heading in ("operation", "times", "layers", "reason"):
        table.add_column(heading, overflow="fold")
    for (op_type, reason), names in groups.items():
        names_once = list(dict.fromkeys(names))
        shown = ", ".join(names_once[:3]) + (", …" if len(names_once) > 3 else "")
        table.add_row(op_type, str(len(names)), shown, reason)
    return table


def _batch_norm_table(result):
    table = Table(title="Batch norms that could not be folded")
    for heading in ("batch norm", "reason"):
        table.add_column(heading, overflow="fold")
    for item in result.unfolded_batch_norms:
        table.add_row(item.name, item.reason)
    return table
