"""Fewer outputs of a multi-headed model: what is for training only goes."""

import tensorflow as tf

from ensemble_heads import graph as graphs
from ensemble_heads.keras_api import keras
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper


def parts_for(model, names):
    """What a model of some of the outputs is made of, sharing all variables.

    Args:
        model: `MultiHeadModel`.
        names: str, or list of str.

    Returns:
        (trunk, wrapper, ensembler, links) for `MultiHeadModel`.

    Raises:
        ValueError: unknown names, none, or one twice.
    """
    chosen = _positions(model.outputs_like, names)
    stacked = model.wrapper.execution == "stacked"  # whose heads are copied
    layout = model.wrapper.layout
    if stacked:
        layout = model.wrapper.with_execution("separate").layout
    wanted = _wanted_outputs(layout, chosen)
    trunk = _with_outputs(model.trunk, _some(model.trunk.output, wanted[None]))
    parts = {}
    for i, (part, parent) in enumerate(zip(layout.parts, layout.parents, strict=True)):
        if i in layout.parents:
            outputs = _some(part.output, wanted[i])
        else:
            outputs = _pack(model, part.output, names)
        inputs = _some(part.input, wanted[parent])
        parts[id(part)] = keras.Model(inputs, outputs, name=part.name)
    layout = layout.mapped(lambda part: parts[id(part)])

    def some(structure, argument):
        flat = model.outputs_like.flatten(structure, argument, shared=True)
        return _like(model, [flat[i] for i in chosen], names)

    wrapper = MultiHeadWrapper.from_layout(
        layout, some(model.wrapper.links, "links"), name=model.wrapper.name
    )
    if stacked:
        wrapper = wrapper.with_execution("stacked")
    return (
        trunk,
        wrapper,
        some(model.ensembler, "ensembler"),
        some(model.links, "links"),
    )


def _positions(outputs, names):
    wanted = [names] if isinstance(names, str) else list(names)
    known = all(name in outputs.names for name in wanted)
    if not wanted or not known or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"`names` must be of the outputs {outputs.names}, each once. "
            f"Received: names={names!r}"
        )
    return [outputs.names.index(name) for name in wanted]


def _wanted_outputs(layout, chosen):
    """{position of a part, None for the trunk: sorted positions of its outputs}.

    Those that the chosen outputs of the heads need of it.
    """
    wanted = {None: set(), **{i: set() for i in range(len(layout.parts))}}
    for i in reversed(range(len(layout.parts))):
        is_last = i not in layout.parents
        inputs = _inputs_for(layout.parts[i], chosen if is_last else wanted[i])
        wanted[layout.parents[i]] |= inputs
    return {i: sorted(positions) for i, positions in wanted.items()}


def _inputs_for(part, positions):
    """Set of the positions of the inputs that some outputs of a model are made from."""
    graph = graphs.read(part)
    outputs = graphs.tensors_in(graph.outputs)
    # Flat in the order of tf.nest, which sorts dicts as `Outputs` does.
    needed = graphs.ancestors(graph, [outputs[i] for i in positions])
    inputs = graphs.tensors_in(graph.inputs)
    return {i for i, tensor in enumerate(inputs) if tensor in needed}


def _some(structure, positions):
    """The leaves at some positions: the structure itself for all, a lone one bare."""
    flat = tf.nest.flatten(structure)
    if len(positions) == len(flat):
        return structure
    if isinstance(structure, dict):
        keys = sorted(structure)
        return {keys[i]: structure[keys[i]] for i in positions}
    leaves = [flat[i] for i in positions]
    return leaves[0] if len(leaves) == 1 else leaves


def _with_outputs(trunk, outputs):
    if outputs is trunk.output:
        return trunk
    return keras.Model(trunk.input, outputs, name=trunk.name)


def _pack(model, structure, names):
    flat = model.outputs_like.flatten(structure, "outputs")
    chosen = _positions(model.outputs_like, names)
    return _like(model, [flat[i] for i in chosen], names)


def _like(model, leaves, names):
    """Leaves in the structure that the outputs have: bare for one that is named."""
    if isinstance(names, str):
        return leaves[0]
    if model.outputs_like.is_dict:
        return dict(zip(names, leaves, strict=True))
    return leaves
