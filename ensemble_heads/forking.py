"""Cuts a graph at a layer into a trunk and what comes after it."""

import dataclasses

import tensorflow as tf

from ensemble_heads.graph import Graph, Node, tensors_in
from ensemble_heads.graph import ancestors as _ancestors
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.width_rules import operation_name
from ensemble_heads.widths import unknown_name

_NOT_FEATURES = ("bool", "int", "uint", "string")


@dataclasses.dataclass(frozen=True, eq=False)
class Fork:
    """A graph cut in two.

    Attributes:
        trunk, upper: `Graph`; the outputs of the one are the inputs of the other.
    """

    trunk: Graph
    upper: Graph


def fork(graph, fork_at):
    """Cuts a graph after a layer, or for an input layer after all of them.

    What depends on the layer's output becomes the upper part. The rest is the trunk;
    of what else the upper part takes, masks, indices and whatever comes from other
    inputs of the model are handed on.

    Args:
        graph: `Graph`.
        fork_at: a layer, or its name.

    Raises:
        ValueError: an unknown or ambiguous layer, nothing after it, or another path
            (as a skip connection) that leads from before it to behind it.
    """
    tensors, name = _fork_tensors(graph, fork_at)
    above = _descendants(graph, tensors)
    if not above:
        raise ValueError(
            "`fork_at` must name a layer with other layers after it: nothing depends "
            f"on the output of `{name}`. Received: fork_at={name!r}"
        )
    crossing = _crossing(graph, tensors, above)
    severed = _severed(graph, tensors, crossing, above)
    if severed:
        raise ValueError(_skip_message(graph, tensors, severed, name))
    below = [node for node in graph.nodes if node not in above]
    needed = _ancestors(graph, crossing)
    below = [node for node in below if needed.intersection(node.outputs)]
    cut = crossing[0] if len(crossing) == 1 else crossing
    trunk = Graph(graph.inputs, cut, below, graph.input_layers, f"{graph.name}_trunk")
    inputs = {t: graph.input_layers[t] for t in crossing if t in graph.input_layers}
    nodes = [node for node in graph.nodes if node in above]
    return Fork(trunk, Graph(cut, graph.outputs, nodes, inputs, f"{graph.name}_upper"))


def take_off_activations(graph):
    """Takes the last softmax, sigmoid or exponential off every output.

    Returns:
        (`Graph` without them, list of links in the order of the flat outputs, each
        `"softmax"`, `"sigmoid"`, `"exponential"` or `"linear"`, {id of layer:
        configuration entries to change}).
    """
    consumers = graph.consumers()
    calls = [id(node.layer) for node in graph.nodes]
    nodes, links, entries, replaced = list(graph.nodes), [], {}, {}
    outputs = tensors_in(graph.outputs)
    for tensor in outputs:
        node = graph.producer(tensor)
        inside = node is None or consumers[tensor] or outputs.count(tensor) > 1
        link = "linear" if inside or calls.count(id(node.layer)) > 1 else _link(node)
        links.append(link)
        if link == "linear":
            continue
        if isinstance(node.layer, keras.layers.Softmax):
            nodes[nodes.index(node)] = _linear_in_place_of(node)
        elif operation_name(node.layer) is not None:
            nodes.remove(node)
            replaced[tensor] = node.inputs[0]
        else:  # an Activation layer too: it names the output
            entries[id(node.layer)] = {"activation": "linear"}
    outputs = _replace(graph.outputs, replaced)
    return dataclasses.replace(graph, nodes=nodes, outputs=outputs), links, entries


def _replace(structure, replaced):
    return tf.nest.map_structure(lambda tensor: replaced.get(tensor, tensor), structure)


def _linear_in_place_of(node):
    """A node that does nothing, and names its output as the softmax layer did."""
    dtype = node.layer.get_config().get("dtype")
    layer = keras.layers.Activation("linear", name=node.layer.name, dtype=dtype)
    return Node(layer, node.name, (node.inputs[0],), {}, node.outputs)


def _link(node):
    layer = node.layer
    name = operation_name(layer)
    if name is not None:
        axis = _operation_axis(node)
        name = name.lower()
        return (
            name if name == "sigmoid" or (name, axis) == ("softmax", -1) else "linear"
        )
    if type(layer) is keras.layers.Softmax:
        rank = len(node.outputs[0].shape)
        return "softmax" if layer.axis in (-1, rank - 1) else "linear"
    activation = getattr(layer, "activation", None)
    if type(layer) not in _with_activation():  # a derived one may do more after it
        return "linear"
    if activation is keras.activations.softmax and _channels_last(layer):
        return "softmax"
    if activation is keras.activations.exponential:
        return "exponential"
    return "sigmoid" if activation is keras.activations.sigmoid else "linear"


def _with_activation():
    layers = keras.layers
    convolutions = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
    return (layers.Activation, layers.Dense, layers.EinsumDense, *convolutions)


def _channels_last(layer):
    return getattr(layer, "data_format", "channels_last") != "channels_first"


def _operation_axis(node):
    if KERAS_3:
        return getattr(node.layer, "axis", -1)
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("axis")
    return -1 if given is None else given


def _fork_tensors(graph, fork_at):
    """(output tensors of the layer to fork after, its name)."""
    calls = [
        (node.outputs, node.name)
        for node in graph.nodes
        if node.layer is fork_at or node.name == fork_at
    ]
    calls += [
        (tensors_in(graph.inputs), tensor.name)
        for tensor, layer in graph.input_layers.items()
        if layer is fork_at or tensor.name == fork_at
    ]
    if not calls:
        name = (
            fork_at if isinstance(fork_at, str) else getattr(fork_at, "name", fork_at)
        )
        known = {node.name for node in graph.nodes}
        known |= {tensor.name for tensor in graph.input_layers}
        raise ValueError(unknown_name("fork_at", name, sorted(known)))
    if len(calls) > 1:
        raise ValueError(
            f"`fork_at` must name a layer that is called once; `{calls[0][1]}` is "
            f"called {len(calls)} times. Received: fork_at={calls[0][1]!r}"
        )
    return calls[0]


def _descendants(graph, tensors):
    """Set of the nodes that depend on any of the tensors and that outputs need."""
    needed = _ancestors(graph, tensors_in(graph.outputs))
    reached, nodes = set(tensors), set()
    for node in graph.nodes:
        if reached.intersection(node.inputs) and needed.intersection(node.outputs):
            nodes.add(node)
            reached.update(node.outputs)
    return nodes


def _crossing(graph, tensors, above):
    """Tensors made below that the upper part takes or gives; the fork's own first."""
    made = {tensor for node in above for tensor in node.outputs}
    taken = [t for node in graph.nodes if node in above for t in node.inputs]
    taken += tensors_in(graph.outputs)
    taken = [t for t in dict.fromkeys(taken) if t not in made]
    return sorted(taken, key=lambda tensor: tensor not in tensors)


def _severed(graph, tensors, crossing, above):
    """Tensors by which another path leads around the fork."""
    taken = {tensor for node in above for tensor in node.inputs}
    origin = _ancestors(graph, tensors)
    return [
        tensor
        for tensor in crossing
        if tensor not in tensors
        and tensor in taken
        and not tensor.dtype.startswith(_NOT_FEATURES)
        and _ancestors(graph, [tensor]) & origin
    ]


def _skip_message(graph, tensors, severed, name):
    before, after = nearest_forks(graph, name)
    places = " or ".join(f"`{place}`" for place in (before, after) if place)
    return (
        f"`fork_at` must not cut a skip connection in two: behind `{name}` the model "
        f"takes both {tensors[0]!r} and {severed[0]!r}, and they come from a common "
        f"layer. Fork at {places}, the nearest places where one tensor carries "
        f"everything. Received: fork_at={name!r}"
    )


def nearest_forks(graph, name):
    """Names of the nearest layers before and after one where a fork is possible."""
    names = [node.name for node in graph.nodes]
    position = names.index(name) if name in names else 0

    def possible(node):
        above = _descendants(graph, node.outputs)
        if not above or names.count(node.name) > 1:
            return False
        crossing = _crossing(graph, node.outputs, above)
        return not _severed(graph, node.outputs, crossing, above)

    before = next((n.name for n in graph.nodes[position::-1] if possible(n)), None)
    after = next((n.name for n in graph.nodes[position + 1 :] if possible(n)), None)
    return before, after
