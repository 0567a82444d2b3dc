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

# Not public: the registry that the public profiler itself asks, and the way in which
# TensorFlow itself gets a function's graph for given shapes.
from tensorflow.python.framework import ops as registry
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

# Operations that move, make or re-label values without computing features.
_MOVEMENT = frozenset(
    """
    Arg Assert AssignVariableOp BatchToSpace BatchToSpaceND Bitcast BroadcastArgs
    BroadcastGradientArgs BroadcastTo Cast CheckNumerics Concat ConcatV2 Const
    CustomGradientIdentity DepthToSpace DiagPart DynamicPartition DynamicStitch
    Empty EmptyTensorList EnsureShape Enter Exit ExpandDims ExtractImagePatches Fill
    Gather GatherNd GatherV2 GuaranteeConst HashTableV2 Identity IdentityN
    InvertPermutation IsInitialized LookupTableFindV2 LookupTableSizeV2 Merge
    MirrorPad NextIteration NoOp OneHot OnesLike Pack ParallelConcat
    ParallelDynamicStitch Pad PadV2 Placeholder PlaceholderWithDefault
    PreventGradient Print PrintV2 Range Rank ReadVariableOp Reshape ResourceGather
    ResourceGatherNd Reverse ReverseV2 Roll ScatterNd Select SelectV2 Shape ShapeN
    Size Slice Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV
    Squeeze StaticRegexReplace StopGradient StridedSlice StringFormat Switch
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGetItem
    TensorListLength TensorListReserve TensorListSetItem TensorListStack
    TensorScatterUpdate Tile Transpose Unpack Unravel VarHandleOp VarIsInitializedOp
    VariableShape VariableV2 Where ZerosLike _Arg _Retval
    """.split()
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


def count_graph(graph, recorder, layers, default=None):
    """Counts the operations that the results of a graph depend on.

    Bodies of called functions are counted like the rest. What a loop or a branch does
    is not known before it runs: the loop or branch itself is reported as uncounted.

    Args:
        graph: `FuncGraph` of a concrete function.
        recorder: `CallRecorder` that was recording while it was traced.
        layers: ids of the layers that `Count.layer` may name.
        default: layer for operations outside of their calls.

    Returns:
        List of `Count`: operations with FLOPs and operations that should have some.
    """
    return _Counter(recorder, layers).count(graph, graph, default, prefix="")


class _Counter:
    """Walks a graph and the functions it calls."""

    def __init__(self, recorder, layers):
        self._recorder, self._layers = recorder, layers

    def count(self, graph, library, default, prefix):
        """List of `Count`.

        Args:
            graph: tf.Graph.
            library: the graph in which the functions are found that `graph` calls.
            default: layer of operations outside of all recorded calls.
            prefix: str before the names of the operations.
        """
        counted, live = _profile(graph), _live(graph)
        owners = self._recorder.owners(graph, self._layers, default)
        counts = []
        for operation, owner in zip(graph.get_operations(), owners, strict=True):
            if operation not in live:
                continue
            name, kind = prefix + operation.name, operation.type
            if operation.name in counted:
                flops = counted[operation.name]
                counts.append(Count(name, kind, flops, None, owner))
                continue
            body = _called_body(library, operation) if kind in _CALLS else None
            if body is not None:
                counts += self.count(*body, owner, name + "/")
            elif reason := self._why_uncounted(graph, library, operation):
                counts.append(Count(name, kind, 0, reason, owner))
        return counts

    def _why_uncounted(self, graph, library, operation):
        """Why the profiler has no number for an operation; None if 0 is the number."""
        kind = operation.type
        if kind in _MOVEMENT or _is_index_arithmetic(operation):
            return None
        if kind in _CALLS:
            return "a call of a function whose body is not at hand"
        if kind in _BODIES:
            return self._why_body(library, operation)
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

    def _why_body(self, library, operation):
        """Why a loop or a branch is not counted; None if there is nothing to count."""
        attributes = [operation.get_attr(name) for name in _BODIES[operation.type]]
        functions = [_function(library, f.name) for f in tf.nest.flatten(attributes)]
        if None in functions:
            return "a call of a function whose body is not at hand"
        bodies = [function.graph for function in functions]
        counts = [self.count(body, body, None, "") for body in bodies]
        if not any(counts):
            return None
        flops = [sum(count.flops for count in body) for body in counts]
        if "body" in _BODIES[operation.type]:
            return f"a loop of {flops[0]:,} FLOPs a step, an unknown number of times"
        return f"only one of its branches runs, of at most {max(flops):,} FLOPs"


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


def _called_body(library, operation):
    """Body of the function that an operation calls; None if it is not at hand.

    A function may have been traced for any batch size (Keras 2 does so with grouped
    convolutions); its shapes are then inferred again from what this call gives it.

    Returns:
        Pair of the body's graph and the graph in which its own functions are found.
    """
    function = _function(library, operation.get_attr("f").name)
    if function is None:
        return None
    body = function.graph
    shapes = [
        None if tensor.dtype in (tf.resource, tf.variant) else tensor.shape
        for tensor in operation.inputs
    ]
    if all(
        shape is None or own.shape.is_fully_defined() or not shape.is_fully_defined()
        for own, shape in zip(body.inputs, shapes, strict=True)
    ):
        return body, body
    definition = function.definition
    for argument in definition.arg_attr.values():
        argument.attr.pop("_output_shapes", None)  # the general shapes would win
    with library.as_default():  # where the functions are found that the body calls
        inferred = function_def_to_graph(
            definition, input_shapes=shapes, include_library_functions=True
        )
    return inferred, body


def _function(library, name):
    """A function that a graph knows; None if it cannot show its body."""
    function = library._get_function(name)
    return function if hasattr(function, "graph") else None


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
