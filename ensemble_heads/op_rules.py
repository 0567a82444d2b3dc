"""Width rules of bare operations: TensorFlow's in Keras 2, `keras.ops` in Keras 3.

Only those that fold, join or cut axes need a rule, because sizes stand among their
arguments or the order of an axis matters; all others are tried out on other sizes
(`probing.py`). See `width_rules.width_rule` for what a rule is.
"""

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import probing, ties
from ensemble_heads.graph import Tensor
from ensemble_heads.keras_api import KERAS_3
from ensemble_heads.shape_rules import broadcast, fixed_shape, join, refold
from ensemble_heads.width_rules import operation_name, operation_rule

_ELEMENTWISE = (
    *("add", "subtract", "multiply", "divide", "truediv", "maximum", "minimum", "pow"),
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum"),
    *("Power", "sub", "mul", "squared_difference", "add_n", "Where", "where"),
)


def parameter(node, position, *names, default=None):
    """An argument of an operation: of the call in Keras 2, of its class in Keras 3."""
    if KERAS_3:
        config = vars(node.layer)
        return next((config[name] for name in names if name in config), default)
    if len(node.args) > position:
        return node.args[position]
    return next((node.kwargs[name] for name in names if name in node.kwargs), default)


def set_parameter(tracer, node, value, position, *names):
    """Tells the argument `parameter` reads, with an Axis in place of each size."""
    if KERAS_3:
        config = node.layer.get_config()
        key = next((name for name in names if name in config), names[0])
        tracer.set_config(node.layer, **{key: value})
        return
    args, kwargs = list(node.args), dict(node.kwargs)
    if len(args) > position:
        args[position] = value
    else:
        kwargs[next(name for name in names if name in kwargs)] = value
    tracer.set_arguments(node, tuple(args), kwargs)


@operation_rule(*_ELEMENTWISE)
def elementwise(tracer, node):
    """Ties all inputs, but for axes that are broadcast."""
    tracer.set_outputs(node, broadcast(tracer, node))


@operation_rule("reshape", "Reshape")
def reshape(tracer, node):
    """Refolds the axes; sizes in the shape follow the widths."""
    x = tracer.input_axes(node)[0]
    shape = node.outputs[0].shape
    out = [x[0], *refold(x[1:], shape[1:])] if shape[0] == x[0].size() else None
    if out is None:
        out = refold(x, shape)
    target = parameter(node, 1, "newshape", "shape")
    if not isinstance(target, Tensor):
        target = type(target)(
            axis if isinstance(size, int) and size > 0 else size
            for size, axis in zip(target, out, strict=True)
        )
        set_parameter(tracer, node, target, 1, "newshape", "shape")
    elif any(axis.widths() for axis in out):
        raise ties.TieError("its target shape is computed by other operations")
    tracer.set_outputs(node, out)


@operation_rule("concat", "concatenate", "Concatenate")
def concatenate(tracer, node):
    """Puts the axes one behind the other and ties all others."""
    axis = parameter(node, 1, "axis", default=-1)
    tracer.set_outputs(node, join(tracer, node, axis))


@operation_rule("stack", "Stack")
def stack(tracer, node):
    """Ties the inputs and adds an axis."""
    shapes = tracer.input_axes(node)
    for shape in shapes[1:]:
        tracer.tie_shapes(shapes[0][1:], shape[1:])
    out = list(tracer.input_axes(node)[0])
    rank = len(out) + 1
    out.insert(parameter(node, 1, "axis", default=0) % rank, ax.fixed(len(shapes)))
    tracer.set_outputs(node, out)


@operation_rule("split", "Split")
def split(tracer, node):
    """Cuts an axis; given sizes or places follow the widths."""
    (x,) = tracer.input_axes(node)
    axis = parameter(node, 2, "axis", default=0) % len(x)
    sizes = [tensor.shape[axis] for tensor in node.outputs]
    if not x[axis].widths():
        fixed = [[*x[:axis], ax.fixed(size), *x[axis + 1 :]] for size in sizes]
        tracer.set_outputs(node, *fixed)
        return
    given = parameter(node, 1, "indices_or_sections", "num_or_size_splits")
    if isinstance(given, int):
        pieces = ties.split_product(x[axis], [given, sizes[0]])[1:] * given
    else:
        pieces = ties.split_concat(x[axis], sizes)
        ends = [ax.concat(pieces[: i + 1]) for i in range(len(pieces) - 1)]
        value = tuple(ends) if KERAS_3 else list(pieces)
        set_parameter(
            tracer, node, value, 1, "indices_or_sections", "num_or_size_splits"
        )
    shapes = []
    for piece in pieces:
        shapes.append([piece if i == axis else a for i, a in enumerate(x)])
    tracer.set_outputs(node, *shapes)


@operation_rule("getitem", "GetItem")
def getitem(tracer, node):
    """Slices of channel axes are cut out of them; others must leave widths whole."""
    x = tracer.input_axes(node)[0]
    if tracer.is_fixed(node):
        tracer.set_outputs(node, fixed_shape(node.outputs[0].shape))
        return
    keys = node.args[1] if len(node.args) > 1 else node.kwargs["key"]
    keys = list(keys) if isinstance(keys, (tuple, list)) else [keys]
    out, new_keys, place = [], [], 0
    for key in _spelled_out(keys, len(x)):
        if key is None or key is tf.newaxis:
            out.append(ax.fixed(1))
            new_keys.append(key)
            continue
        axis, place = x[place], place + 1
        piece, key = _slice(axis, key)
        new_keys.append(key)
        if piece is not None:
            out.append(piece)
    tracer.set_arguments(node, (node.args[0], tuple(new_keys)), {})
    tracer.set_outputs(node, _with_known_sizes(out, node.outputs[0].shape))


def _spelled_out(keys, rank):
    """Keys with an ellipsis, or what is left out at the end, as full slices."""
    taken = sum(key is not None and key is not Ellipsis for key in keys)
    whole = dict.fromkeys(("start", "stop", "step"))  # as Keras 2 keeps slices
    full = [slice(None) if KERAS_3 else whole] * (rank - taken)
    at = next((i for i, key in enumerate(keys) if key is Ellipsis), None)
    if at is None:
        return [*keys, *full]
    return [*keys[:at], *full, *keys[at + 1 :]]


def _slice(axis, key):
    """(axis that a key leaves, or None; the key with an Axis for each size)."""
    start, stop, step = _slice_parts(key)
    if isinstance(key, (int, Tensor)) or start == "index":
        if axis.widths():
            raise ties.TieError("it takes one channel out of an axis that scales")
        return None, key
    if not axis.widths() or (start, stop, step) == (None, None, None):
        return (axis if (start, stop, step) == (None, None, None) else _UNKNOWN), key
    if step not in (None, 1):
        raise ties.TieError("it takes channels in steps out of an axis that scales")
    size = axis.size()
    start, stop, _ = slice(start, stop).indices(size)
    before, piece, _ = ties.split_concat(axis, [start, stop - start, size - stop])
    ends = (before, ax.concat([before, piece]), None)
    if isinstance(key, dict):
        return piece, dict(zip(("start", "stop", "step"), ends, strict=True))
    return piece, ax.SliceOfAxes(*ends)


_UNKNOWN = ax.fixed(None)


def _slice_parts(key):
    if isinstance(key, dict):
        return key["start"], key["stop"], key["step"]
    if isinstance(key, slice):
        return key.start, key.stop, key.step
    return "index", None, None


def _with_known_sizes(axes, shape):
    """Axes in which unknown fixed sizes are read off the shape."""
    return [
        ax.fixed(size) if axis == _UNKNOWN else axis
        for axis, size in zip(axes, shape, strict=True)
    ]


_AXIS_ARGUMENTS = {  # position of `axis` among the arguments in Keras 2
    **dict.fromkeys(("reverse", "flip", "Flip"), 1),
    **dict.fromkeys(("roll", "Roll", "unstack", "Unstack"), 2),
    **dict.fromkeys(("top_k", "TopK"), None),  # always the last axis
    **dict.fromkeys(("gather", "Take", "TakeAlongAxis"), 3),
}


@operation_rule(*_AXIS_ARGUMENTS)
def by_position(tracer, node):
    """Picks or moves positions along an axis, which then must not scale."""
    x = tracer.input_axes(node)[0]
    place = _AXIS_ARGUMENTS[operation_name(node.layer)]
    axis = -1 if place is None else parameter(node, place, "axis", default=0)
    touched = range(len(x)) if axis is None else tf.nest.flatten(axis)
    if any(x[int(i)].widths() for i in touched):
        raise ties.TieError("it picks channels by position out of an axis that scales")
    probing.probe(tracer, node)


@operation_rule("slice", "Slice")
def cut(tracer, node):
    """Takes a block of given sizes, of axes that do not scale."""
    x = tracer.input_axes(node)[0]
    sizes = parameter(node, 2, "size", "shape")
    if isinstance(sizes, Tensor) or any(
        axis.widths() and int(size) != -1 for axis, size in zip(x, sizes, strict=True)
    ):
        raise ties.TieError("it picks channels by position out of an axis that scales")
    probing.probe(tracer, node)


@operation_rule("matmul", "Matmul", "batch_dot", "linalg.matmul")
def matmul(tracer, node):
    """Ties the axes that are summed over and those of the batch."""
    if len(tracer.input_axes(node)) < 2:
        raise ties.TieError("one of its factors is an array of constants")
    first, second = tracer.input_axes(node)
    left = -2 if parameter(node, 2, "transpose_a", default=False) else -1
    right = -1 if parameter(node, 3, "transpose_b", default=False) else -2
    tracer.tie(first[left], second[right])
    first, second = tracer.input_axes(node)
    rows, columns = first[-3 - left], second[-3 - right]
    lead = first[:-2] if len(first) >= len(second) else second[:-2]
    tracer.set_outputs(node, [*lead, rows, columns])


@operation_rule("einsum", "Einsum")
def einsum(tracer, node):
    """Ties the axes of the same letter."""
    equation = parameter(node, 0, "subscripts", "equation").replace(" ", "")
    terms, result = equation.split("->")
    letters = {}
    for _ in range(2):  # the second round reads what the first one tied
        for term, axes in zip(terms.split(","), tracer.input_axes(node), strict=True):
            if "." in term:
                raise ties.TieError("an ellipsis in its equation")
            for letter, axis in zip(term, axes, strict=True):
                known = letters.setdefault(letter, axis)
                if known.size() is not None and axis.size() is not None:
                    tracer.tie(known, axis)
                letters[letter] = letters[letter].resolve()
    tracer.set_outputs(node, [letters[letter] for letter in result])
