"""What travels between devices in a step of a model, counted."""

import collections
import dataclasses
import io
import re
import tempfile
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.table import Table

from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.placement import canonical

_SENDS = ("_Send", "_HostSend")
_GRAPHS_TAG = "graphs"
_IN_BRANCH = re.compile(r".*/(?:then|else|body|cond)/_\d+/")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One tensor that goes from one device to another, once a step.

    Attributes:
        tensor: str, name of the operation that makes it.
        sender, receiver: str, names of the devices.
        dtype: str, as `"float32"`.
        shape: tuple of int, or None where it is known in the step only.
        bytes: int, or None without a shape.
    """

    tensor: str
    sender: str
    receiver: str
    dtype: str
    shape: tuple[int, ...] | None
    bytes: int | None


@dataclasses.dataclass(frozen=True)
class Transfers:
    """What one step sends between devices; `print` shows it as a table.

    Attributes:
        step: `"training"` or `"inference"`.
        rows: tuple of `Transfer`.
        bytes: int, their sum.
        uncounted: tuple of those of the rows whose size is not known beforehand.
    """

    step: str
    rows: tuple[Transfer, ...]

    @property
    def bytes(self):
        return sum(row.bytes or 0 for row in self.rows)

    @property
    def uncounted(self):
        return tuple(row for row in self.rows if row.bytes is None)

    def __str__(self):
        console = Console(file=io.StringIO(), width=120, color_system=None)
        console.print(self)
        return console.file.getvalue().rstrip()

    def __rich_console__(self, console, options):
        table = Table(title=f"Sent between devices in a step of {self.step}")
        for heading in ("from", "to", "tensor", "dtype", "shape"):
            table.add_column(heading, overflow="fold")
        table.add_column("bytes", justify="right")
        for sender, receiver in dict.fromkeys(
            (r.sender, r.receiver) for r in self.rows
        ):
            group = [
                r for r in self.rows if (r.sender, r.receiver) == (sender, receiver)
            ]
            for cells in _cells(group):
                table.add_row(sender, receiver, *cells)
                sender = receiver = ""
            table.add_section()
        table.add_row("sum", "", "", "", "", f"{self.bytes:,}")
        yield table
        if self.uncounted:
            names = ", ".join(row.tensor for row in self.uncounted)
            yield f"NOT counted, for their shapes are known in the step only: {names}"


def transfers(model, x, y=None, sample_weight=None):
    """Counts the bytes that one step of a model sends between devices.

    They are read from the graphs into which TensorFlow's runtime has cut the step, one
    per device: each tensor that leaves one of these is sent. One step is run for that,
    and all variables are given their values back.

    ```python
    >>> import numpy as np
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> inputs = keras.Input((4,))
    >>> shared = keras.layers.Dense(8, name="shared")(inputs)
    >>> single = keras.Model(inputs, keras.layers.Dense(1)(shared))
    >>> model = eh.multi_head(single, fork_at="shared", num_heads=2)
    >>> eh.transfers(model, np.ones([5, 4])).bytes  # all on one device
    0

    ```

    Args:
        model: `eh.MultiHeadModel`; compiled, if `y` is given.
        x: array or tensor, or a list or dict of such: a batch of the size to count for.
        y: its targets, to count a training step. Default: inference.
        sample_weight: its weights, as `fit` takes them.

    Returns:
        A `Transfers`. What goes back and forth to keep order, without a value, is not
        in it, nor is the batch's own way to the trunk.

    Raises:
        TypeError: `model` is no `eh.MultiHeadModel`.
        ValueError: `y` for a model that is not compiled, or no program to look at.
    """
    if not isinstance(model, MultiHeadModel):
        raise TypeError(
            "`model` must be an `eh.MultiHeadModel`. "
            f"Received: model={model!r} of class {type(model).__name__}"
        )
    if y is not None and getattr(model, "optimizer", None) is None:
        raise ValueError(
            "`y` must be left out for a model that is not compiled, which has no "
            f"training step. Received: model={model!r}"
        )
    batch = (x,) if y is None else (x, y, sample_weight)
    batch = tf.nest.map_structure(
        lambda part: None if part is None else _tensor(part), batch
    )

    @tf.function(autograph=False)
    def step(batch):
        if y is None:
            return model(batch[0], training=False)
        return model.train_step(batch)

    program = step.get_concrete_function(batch)
    kept = [(v, _copy(v)) for v in program.graph.variables]
    try:
        functions = _functions_run_by(lambda: step(batch))
    finally:
        for variable, value in kept:
            variable.assign(value)
    if not functions:
        raise ValueError(
            "`model` must run as a graph, and not eagerly: call "
            "`tf.config.run_functions_eagerly(False)`. Received: no graph"
        )
    shapes = _shapes(program.graph)

    def likeness(function):
        return sum(n.name in shapes for n in function.pre_optimization_graph.node)

    parts = max(functions, key=likeness).partition_graphs
    rows = [row for graph in parts for row in _sends(graph, shapes)]
    return Transfers("inference" if y is None else "training", tuple(rows))


def _tensor(part):
    tensor = tf.convert_to_tensor(part)
    return tf.cast(tensor, tf.float32) if tensor.dtype == tf.float64 else tensor


def _copy(variable):
    with tf.device(variable.device):
        return tf.identity(variable)


def _functions_run_by(run):
    """What TensorFlow's runtime made of the functions that `run` calls."""
    with tempfile.TemporaryDirectory() as folder:
        writer = tf.summary.create_file_writer(folder)
        with writer.as_default(step=0), tf.summary.record_if(True):
            tf.summary.trace_on(graph=True, profiler=False)
            run()
            tf.summary.trace_export(_GRAPHS_TAG)
        writer.close()
        functions = []
        for path in Path(folder).iterdir():
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    if value.tag == _GRAPHS_TAG:
                        data = value.tensor.string_val[0]
                        found = tf.compat.v1.RunMetadata.FromString(data)
                        functions += found.function_graphs
        return functions


def _shapes(graph):
    """{name of an operation: list of the shapes of its outputs, None for unknown}.

    Those in branches are under the names that they have there; the runtime puts the
    way to the branch before them.
    """
    definition = graph.as_graph_def(add_shapes=True)
    nodes = [
        node for function in definition.library.function for node in function.node_def
    ]
    shapes = {}
    for node in [*nodes, *definition.node]:
        given = [tf.TensorShape(s) for s in node.attr["_output_shapes"].list.shape]
        own = [tuple(s) if s.is_fully_defined() else None for s in given]
        shapes[node.name] = own if shapes.get(node.name, own) == own else []
    return shapes


def _sends(partition, shapes):
    """The `Transfer` of every tensor that leaves a device's graph."""
    nodes = {node.name: node for node in partition.node}
    for node in partition.node:
        if node.op not in _SENDS:
            continue
        name, _, slot = node.input[0].partition(":")
        if _is_signal(nodes[name]):
            continue
        source = node.attr["_src"].s.decode() or name
        own = shapes.get(source, shapes.get(_IN_BRANCH.sub("", source), []))
        shape = own[int(slot or 0)] if int(slot or 0) < len(own) else None
        dtype = tf.as_dtype(node.attr["T"].type)
        elements = None if shape is None else tf.TensorShape(shape).num_elements()
        yield Transfer(
            source,
            canonical(node.attr["send_device"].s.decode()),
            canonical(node.attr["recv_device"].s.decode()),
            dtype.name,
            shape,
            None if elements is None else elements * dtype.size,
        )


def _is_signal(node):
    """Whether a node only says that something is done, by a constant of no elements."""
    sizes = node.attr["value"].tensor.tensor_shape.dim
    return node.op == "Const" and any(dim.size == 0 for dim in sizes)


def _cells(rows):
    """Tensors, the largest first; numbers are summed up."""
    tensors = [row for row in rows if row.shape != ()]
    for row in sorted(tensors, key=lambda row: -(row.bytes or 0)):
        shape = "?" if row.shape is None else " x ".join(map(str, row.shape))
        size = "?" if row.bytes is None else f"{row.bytes:,}"
        yield row.tensor, row.dtype, shape, size
    numbers = collections.Counter()
    for row in rows:
        if row.shape == ():
            numbers[row.dtype] += row.bytes
    for dtype, size in numbers.items():
        count = size // tf.as_dtype(dtype).size
        yield f"{count} single numbers", dtype, "", f"{size:,}"
