"""Finds which widths of a graph are tied to one another.

`trace` walks a `Graph` once and gives every axis of every tensor as an expression of
width variables (see `axes.py`). What a layer does to the axes is its *width rule*:
those of Keras' own layers are in `layer_rules.py`, of bare operations in
`op_rules.py`, and what has no rule is tried out on other sizes (`probing.py`).
"""

import dataclasses
import itertools

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import keras_cv_rules as _keras_cv_rules  # noqa: F401 (registers)
from ensemble_heads import layer_rules as _layer_rules  # noqa: F401 (registers)
from ensemble_heads import op_rules as _op_rules  # noqa: F401 (registers)
from ensemble_heads import probing, ties, width_rules
from ensemble_heads import sequence_rules as _sequence_rules  # noqa: F401 (registers)
from ensemble_heads import shape_rules as _shape_rules  # noqa: F401 (registers)
from ensemble_heads.graph import tensors_in


@dataclasses.dataclass(eq=False)
class Trace:
    """What `trace` found.

    Attributes:
        axes: {Tensor: tuple of Axis}.
        config: {id of layer: {path in its configuration: Axis, or a structure}}.
        weights: {id of layer: list of tuples of Axis, in the order of its weights}.
        arguments: {id of node: (args, kwargs) with an Axis for each size in them}.
        widths: {(id of layer, key): Width}, as the layers made them.
        probed: list of `Node`, the calls of layers without a width rule.
        temperatures: {id of layer: (Axis, positions of weights)}: weights that are
            multiplied by the root of how that axis shrinks, if they are copied.
    """

    axes: dict = dataclasses.field(default_factory=dict)
    config: dict = dataclasses.field(default_factory=dict)
    weights: dict = dataclasses.field(default_factory=dict)
    arguments: dict = dataclasses.field(default_factory=dict)
    widths: dict = dataclasses.field(default_factory=dict)
    probed: list = dataclasses.field(default_factory=list)
    temperatures: dict = dataclasses.field(default_factory=dict)


def trace(graph, kept=(), fallback=None):
    """Finds the tied widths of a graph.

    Its inputs and its outputs keep their sizes.

    Args:
        graph: `Graph`.
        kept: collection of ids of layers whose own widths keep their size.
        fallback: width rule for what has none. Default: `probing.probe`.

    Returns:
        A `Trace`.

    Raises:
        ValueError: no way was found to trace the sizes through a layer; the message
            names it and what can be passed instead.
    """
    tracer = Tracer(kept)
    for tensor in tensors_in(graph.inputs):
        tracer.result.axes[tensor] = tuple(map(ax.fixed, tensor.shape))
    for node in graph.nodes:
        tracer.visit(node, fallback)
    for tensor in tensors_in(graph.outputs):
        for axis in tracer.result.axes[tensor]:
            ties.pin(axis)
    return tracer.result


class Tracer:
    """What width rules work with; see `width_rules.width_rule`."""

    def __init__(self, kept=()):
        self.result = Trace()
        self.kept = frozenset(kept)

    def visit(self, node, fallback=None):
        """Traces one call."""
        rule = width_rules.find(node.layer) or fallback or probing.probe
        if width_rules.operation_name(node.layer) and self.is_fixed(node):
            rule = Tracer.keep
        try:
            rule(self, node)
        except ties.TieError as error:
            if id(node.layer) not in self.kept:
                raise ValueError(untraceable(node, self, str(error))) from error
            self.keep(node)
        for tensor in node.outputs:
            traced = [axis.size() for axis in self.result.axes[tensor]]
            pairs = zip(traced, tensor.shape, strict=True)
            if any(size != known for size, known in pairs if None not in (size, known)):
                reason = f"shape {tensor.shape} came out as {tuple(traced)}"
                raise ValueError(untraceable(node, self, reason))

    def keep(self, node):
        """Lets a call, and what goes into it, keep all sizes."""
        for axis in itertools.chain(*self.input_axes(node)):
            ties.pin(axis)
        self.result.config.pop(id(node.layer), None)
        self.result.weights[id(node.layer)] = [
            tuple(map(ax.fixed, weight.shape))
            for weight in getattr(node.layer, "weights", [])
        ]
        shapes = (map(ax.fixed, tensor.shape) for tensor in node.outputs)
        self.set_outputs(node, *shapes)

    def axes(self, tensor):
        """Tuple of `Axis` of a tensor, with everything bound so far put in."""
        return tuple(axis.resolve() for axis in self.result.axes[tensor])

    def input_axes(self, node):
        """List with the axes of each tensor that a call takes, but for masks."""
        return [self.axes(tensor) for tensor in node.values]

    def is_fixed(self, node):
        """Whether no size that enters this call can change."""
        return not any(axis.widths() for axes in self.input_axes(node) for axis in axes)

    def width(self, layer, key, base):
        """The width variable of a layer, the same one for all its calls.

        Args:
            layer: the original layer.
            key: str, what the width is called in its configuration.
            base: int, its original size.

        Returns:
            An `Axis`; a fixed one where the width is 1 or is to be kept.
        """
        if base == 1 or id(layer) in self.kept:
            return ax.fixed(base)
        place = (id(layer), key)
        if place not in self.result.widths:
            self.result.widths[place] = ax.Width(base, layer.name)
        return ax.variable(self.result.widths[place]).resolve()

    def tie(self, first, second):
        """Makes two axes equal; raises `ties.TieError`."""
        ties.tie(first, second)

    def tie_shapes(self, first, second):
        """Ties two shapes axis by axis."""
        for a, b in zip(first, second, strict=True):
            if a.resolve() != b.resolve():
                ties.tie(a, b)

    def set_outputs(self, node, *shapes):
        """Tells the axes of a call's outputs; sizes traced as unknown are fixed."""
        for tensor, axes in zip(node.outputs, shapes, strict=True):
            self.result.axes[tensor] = tuple(axes)

    def set_like(self, node, axes, channel=-1):
        """One output in which only the `channel` axis has a width."""
        tensor = node.outputs[0]
        shape = [ax.fixed(size) for size in tensor.shape]
        shape[channel] = axes
        self.set_outputs(node, shape)

    def set_config(self, layer, **entries):
        """Tells configuration entries that hold sizes: Axis, or structures of it."""
        self.set_config_paths(layer, {(key,): value for key, value in entries.items()})

    def set_config_paths(self, layer, entries):
        """The same for entries further in: {tuple of keys: value}."""
        self.result.config.setdefault(id(layer), {}).update(entries)

    def set_weights(self, layer, *shapes):
        """Tells the axes of each weight, in order; ties them on a second call."""
        known = self.result.weights.get(id(layer))
        if known is None:
            self.result.weights[id(layer)] = [tuple(shape) for shape in shapes]
            return
        for before, now in zip(known, shapes, strict=True):
            self.tie_shapes(before, now)

    def set_temperature(self, layer, axis, positions):
        """Tells weights that make up for a division by the root of an axis' size."""
        self.result.temperatures[id(layer)] = (axis, positions)

    def set_arguments(self, node, args, kwargs):
        """Tells the arguments of a call with an Axis in place of each size."""
        self.result.arguments[id(node)] = (args, kwargs)


def untraceable(node, tracer, reason):
    """The message for a layer that sizes could not be traced through."""
    layer = node.layer
    axes = itertools.chain(*tracer.input_axes(node))
    owners = [width.owner for axis in axes for width in axis.widths()]
    keep = ", ".join(f"`{name}`" for name in dict.fromkeys([*owners, node.name]))
    return (
        f"The width of layer `{node.name}` ({type(layer).__name__}) cannot be scaled: "
        f"{reason}. Pass `width_multiplier` as a callable `layer -> float` that "
        f"returns 1.0 for {keep} to keep these widths, or fork after this layer. "
        f"Received: inputs {node.inputs}, output {node.outputs}"
    )


def sizes_in(structure, values):
    """Puts sizes in the place of each `Axis` in a structure."""

    def size(item):
        if isinstance(item, ax.Axis):
            return item.size(values)
        return item.at(values) if isinstance(item, ax.SliceOfAxes) else item

    return tf.nest.map_structure(size, structure)
