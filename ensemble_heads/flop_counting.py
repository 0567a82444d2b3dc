"""Floating-point operations of a traced graph, node by node and layer by layer.

The numbers are those of `tf.compat.v1.profiler`: two per multiply-add of a convolution
or matrix product, one per element of an addition, and so on. The profiler says
nothing about operations that it has no rule for, or whose shapes are not known; here
each of them gets an entry with the reason.
"""

import contextlib
import dataclasses
import io
import logging

import tensorflow as tf

# Not public, but the registry the public profiler itself asks.
from tensorflow.python.framework import ops as registry

# Operations that move, make or re-label values without computing features.
_MOVEMENT = frozenset(
    [
        "Arg",
        "Assert",
        "AssignVariableOp",
        "BatchToSpace",
        "BatchToSpaceND",
        "Bitcast",
        "BroadcastArgs",
        "BroadcastGradientArgs",
        "BroadcastTo",
        "Cast",
        "CheckNumerics",
        "Concat",
        "ConcatV2",
        "Const",
        "CustomGradientIdentity",
        "DepthToSpace",
        "DiagPart",
        "DynamicPartition",
        "DynamicStitch",
        "Empty",
        "EmptyTensorList",
        "EnsureShape",
        "Enter",
        "Exit",
        "ExpandDims",
        "ExtractImagePatches",
        "Fill",
        "Gather",
        "GatherNd",
        "GatherV2",
        "GuaranteeConst",
        "HashTableV2",
        "Identity",
        "IdentityN",
        "InvertPermutation",
        "IsInitialized",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "Merge",
        "MirrorPad",
        "NextIteration",
        "NoOp",
        "OneHot",
        "OnesLike",
        "Pack",
        "ParallelConcat",
        "ParallelDynamicStitch",
        "Pad",
        "PadV2",
        "Placeholder",
        "PlaceholderWithDefault",
        "PreventGradient",
        "Print",
        "PrintV2",
        "Range",
        "Rank",
        "ReadVariableOp",
        "Reshape",
        "ResourceGather",
        "ResourceGatherNd",
        "Reverse",
        "ReverseV2",
        "Roll",
        "ScatterNd",
        "Select",
        "SelectV2",
        "Shape",
        "ShapeN",
        "Size",
        "Slice",
        "Snapshot",
        "SpaceToBatch",
        "SpaceToBatchND",
        "SpaceToDepth",
        "Split",
        "SplitV",
        "Squeeze",
        "StaticRegexReplace",
        "StopGradient",
        "StridedSlice",
        "StringFormat",
        "Switch",
        "TensorListConcatV2",
        "TensorListElementShape",
        "TensorListFromTensor",
        "TensorListGetItem",
        "TensorListLength",
        "TensorListReserve",
        "TensorListSetItem",
        "TensorListStack",
        "TensorScatterUpdate",
        "Tile",
        "Transpose",
        "Unpack",
        "Unravel",
        "VarHandleOp",
        "VarIsInitializedOp",
        "VariableShape",
        "VariableV2",
        "Where",
        "ZerosLike",
        "_Arg",
        "_Retval",
    ]
)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_BODIES = {
    "While": ["body"],
    "StatelessWhile": ["body"],
    "If": ["then_branch", "else_branch"],
    "StatelessIf": ["then_branch", "else_branch"],
    "Case": ["branches"],
    "StatelessCase": ["branches"],
}

_INDEX_ELEMENTS = 16  # an integer tensor up to this size is a shape or an index


@dataclasses.dataclass(frozen=True)
class Count:
    """What one operation of the graph costs.

    Attributes:
        node: str, name of the operation; a function's operations are named
            `call/operation`.
        op_type: str, as `"Conv2D"`.
        flops: int, 0 where the profiler could not count.
        reason: str, why it could not be counted; None where it was.
        layer: the innermost Keras layer in whose call it was made, out of those
            asked for, or None.
    """

    node: str
    op_type: str
    flops: int
    reason: str | None
    layer: object


def count_graph(graph, recorder, layers, default=None, prefix=""):
    """Counts the operations that the results of a graph depend on.

    Bodies of called functions are counted like the rest. What a loop or a branch does
    is not known before it runs: the loop or branch itself is reported as uncounted.

    Args:
        graph: `FuncGraph` of a concrete function.
        recorder: `CallRecorder` that was recording while it was traced.
        layers: ids of the layers that `Count.layer` may name.
        default: layer for operations outside of their calls.
        prefix: str before the names of the operations.

    Returns:
        List of `Count`: operations with FLOPs and operations that should have some.
    """
    counted = _profile(graph)
    owners = recorder.owners(graph, layers, default)
    live = _live(graph)
    counts = []
    for operation, owner in zip(graph.get_operations(), owners, strict=True):
        if operation not in live:
            continue
        name, kind = prefix + operation.name, operation.type
        if operation.name in counted:
            flops = counted[operation.name]
            counts.append(Count(name, kind, flops, None, owner))
        elif kind in _CALLS and (body := _called_body(graph, operation)):
            counts += count_graph(body, recorder, layers, owner, name + "/")
        elif reason := _why_uncounted(graph, operation, recorder):
            counts.append(Count(name, kind, 0, reason, owner))
    return counts


def _profile(graph):
    """{name of operation: FLOPs}, where the profiler counted any."""
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(
        profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    with _quiet():
        root = profiler.profile(graph, cmd="scope", options=options.build())
    counted, stack = {}, [root]
    while stack:
        node = stack.pop()
        stack.extend(node.children)
        if node.float_ops:
            counted[node.name] = node.float_ops
    return counted


@contextlib.contextmanager
def _quiet():
    """Holds back what the profiler prints about shapes and deprecated functions."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        silence = io.StringIO()
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            yield
    finally:
        logger.setLevel(level)


def _live(graph):
    """The operations that run when the graph's outputs are asked for."""
    stack = [tensor.op for tensor in tf.nest.flatten(graph.outputs)]
    stack += list(getattr(graph, "control_outputs", ()))
    live = set()
    while stack:
        operation = stack.pop()
        if operation not in live:
            live.add(operation)
            stack += [tensor.op for tensor in operation.inputs]
            stack += operation.control_inputs
    return live


def _called_body(graph, operation):
    return _function_graph(graph, operation.get_attr("f"))


def _function_graph(graph, function):
    """Graph of a function by its attribute value; None if it is not at hand."""
    try:
        return graph._get_function(function.name).graph
    except (AttributeError, ValueError):
        return None


def _why_uncounted(graph, operation, recorder):
    """Why the profiler has no number for an operation; None if 0 is the number."""
    kind = operation.type
    if kind in _MOVEMENT or _is_index_arithmetic(operation):
        return None
    if kind in _CALLS:
        return "a call of a function whose body is not at hand"
    if kind in _BODIES:
        return _why_body(graph, operation, recorder)
    try:
        with _quiet():
            value = registry.get_stats_for_node_def(
                graph, operation.node_def, "flops"
            ).value
    except ValueError as error:
        if all(t.shape.is_fully_defined() for t in _tensors(operation)):
            return f"the profiler refuses it: {error}"
        return "unknown dimension"
    if value is not None:
        return None
    return "op type not registered with the profiler"


def _why_body(graph, operation, recorder):
    """Why a loop or a branch is not counted; None if there is nothing to count."""
    functions = [operation.get_attr(name) for name in _BODIES[operation.type]]
    bodies = [_function_graph(graph, f) for f in tf.nest.flatten(functions)]
    if None in bodies:
        return "a call of a function whose body is not at hand"
    counts = [count_graph(body, recorder, set()) for body in bodies]
    if not any(counts):
        return None
    flops = [sum(count.flops for count in body) for body in counts]
    if "body" in _BODIES[operation.type]:
        return f"a loop of {flops[0]:,} FLOPs a step, an unknown number of times"
    return f"only one of its branches runs, of at most {max(flops):,} FLOPs"


def _tensors(operation):
    return [*operation.inputs, *operation.outputs]


def _is_index_arithmetic(operation):
    """Whether an operation only computes shapes or indices."""
    tensors = _tensors(operation)
    return bool(operation.outputs) and all(
        (tensor.dtype.is_integer or tensor.dtype.is_bool)
        and tensor.shape.is_fully_defined()
        and tensor.shape.num_elements() <= _INDEX_ELEMENTS
        for tensor in tensors
    )
