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
    used = _used_features(model, chosen)
    trunk = _with_outputs(model.trunk, _some(model.trunk.output, used))
    heads = [
        keras.Model(
            _some(head.input, used), _pack(model, head.output, names), name=head.name
        )
        for head in model.heads
    ]

    def some(structure, argument):
        flat = model.outputs_like.flatten(structure, argument, shared=True)
        return _like(model, [flat[i] for i in chosen], names)

    wrapper = MultiHeadWrapper.from_heads(
        heads, some(model.wrapper.links, "links"), name=model.wrapper.name
    )
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


def _used_features(model, chosen):
    """Positions of the trunk's outputs that any head needs for the chosen outputs."""
    used = set()
    for head in model.heads:
        graph = graphs.read(head)
        outputs = graphs.tensors_in(graph.outputs)
        # Flat in the order of tf.nest, which sorts dicts as `Outputs` does.
        needed = graphs.ancestors(graph, [outputs[i] for i in chosen])
        inputs = graphs.tensors_in(graph.inputs)
        used |= {i for i, tensor in enumerate(inputs) if tensor in needed}
    return sorted(used)


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
