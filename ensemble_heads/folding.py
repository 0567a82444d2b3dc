"""Batch norms folded into the linear layers before or after them.

A batch norm at inference is `scale * x + shift` per channel, with constants. A
convolution or dense layer next to it can take both into its weights.
"""

import dataclasses

import tensorflow as tf

from ensemble_heads import graph as graphs
from ensemble_heads.cloning import copy_state
from ensemble_heads.folding_plan import (
    FoldingPlan,
    UnfoldedBatchNorm,
    batch_norms_in,
    unfolded_in,
)
from ensemble_heads.keras_api import keras
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper


def fold_batch_norm(model):
    """An equal model without its batch norms.

    Batch norms are folded into the Conv, DepthwiseConv, SeparableConv, Conv…Transpose
    or Dense layer before them, if it is linear and nothing else takes its output, or
    else into those after them, where that is exact: zero padding between the two makes
    a shift inexact at the borders. A shared layer is folded only if all its calls
    agree. What cannot be folded stays; `unfolded_batch_norms` names it.

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> images = keras.Input((8, 8, 3))
    >>> x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(images)
    >>> x = keras.layers.BatchNormalization(name="norm")(x)
    >>> folded = eh.fold_batch_norm(keras.Model(images, x))
    >>> folded.get_layer("conv").use_bias
    True

    ```

    Args:
        model: a functional model (nested models are inlined), a built Sequential, or
            an `eh.MultiHeadModel`, of which trunk and every head are folded. Never
            changed.

    Returns:
        A new model of the same kind with weights of its own, for inference: dropout
        stays where it was, but training does not normalise any more. Folded layers
        have no regularisers or constraints, which were about the unfolded weights.
        Predictions are those of `model` up to float error.

    Raises:
        ValueError: `model` is a subclassed model, or not built.
    """
    if isinstance(model, MultiHeadModel):
        return _fold_multi_head(model)
    graph = graphs.read(model)
    return _build(FoldingPlan(graph).fold())


def unfolded_batch_norms(model):
    """The batch norms that `fold_batch_norm` leaves in a model, with the reasons.

    Args:
        model: any Keras model. In a subclassed model nothing can be folded.

    Returns:
        Tuple of `UnfoldedBatchNorm`.
    """
    if isinstance(model, MultiHeadModel):
        inside = [x for layer in model.flat_ensemblers() for x in batch_norms_in(layer)]
        return (
            *unfolded_in([model.trunk, *model.wrapper.layout.functional_parts()]),
            *(UnfoldedBatchNorm(x.name, "it is inside the ensembler") for x in inside),
        )
    if not graphs.is_functional(model):
        reason = "it is in a subclassed model, whose connections are not known"
        return tuple(
            UnfoldedBatchNorm(layer.name, reason) for layer in batch_norms_in(model)
        )
    return FoldingPlan(graphs.read(model)).fold().unfolded()


def fold_where_possible(model):
    """The model to measure or export, and what of it could not be folded.

    Args:
        model: any Keras model.

    Returns:
        Pair of a folded model, or `model` itself where nothing can be folded, and a
        tuple of `UnfoldedBatchNorm`.
    """
    norms = batch_norms_in(model)
    unfolded = unfolded_batch_norms(model) if norms else ()
    if len(unfolded) == len(norms):
        return model, unfolded
    return fold_batch_norm(model), unfolded


def _fold_multi_head(model):
    ensemblers = {id(layer): layer for layer in model.flat_ensemblers()}
    copies = {key: graphs.clone_layer(layer) for key, layer in ensemblers.items()}
    flat = [copies[id(layer)] for layer in model.flat_ensemblers()]
    wrapper = _fold_wrapper(model.wrapper, model.wrapper.name)
    folded = MultiHeadModel(
        fold_batch_norm(model.trunk),
        wrapper,
        model.outputs_like.pack(flat),
        model.links,
        model.width_multiplier,
        name=model.name,
    )
    for key, layer in ensemblers.items():
        copy_state(layer, copies[key])
    return folded


def _fold_wrapper(wrapper, name):
    layout = wrapper.layout.mapped(fold_batch_norm)
    return MultiHeadWrapper.from_layout(layout, wrapper.links, name=name)


def _build(plan):
    """The model of a plan's decisions, with the weights set."""
    graph, made = plan.graph, {}

    def make_layer(layer, name):
        made[id(layer)] = new = _make_layer(plan, layer, name)
        return new

    folded = _without_norms(graph, plan.folded).build(make_layer)
    for node in graph.nodes:
        layer, new = node.layer, made.pop(id(node.layer), None)
        if new is None or not isinstance(layer, keras.layers.Layer):
            continue
        if isinstance(layer, MultiHeadWrapper):
            continue
        if id(layer) in plan.weights:
            new.set_weights(plan.weights[id(layer)].arrays())
        else:
            copy_state(layer, new)
    return folded


def _make_layer(plan, layer, name):
    if isinstance(layer, MultiHeadWrapper):
        return _fold_wrapper(layer, name)
    weights = plan.weights.get(id(layer))
    if weights is None:
        return graphs.clone_layer(layer, name)
    config = layer.get_config()
    dropped = [key for key in config if key.endswith(("_regularizer", "_constraint"))]
    changes = dict.fromkeys(dropped)
    return graphs.clone_layer(layer, name, **changes, use_bias=weights.has_bias)


def _without_norms(graph, folded):
    """The graph with folded batch norms taken out."""
    outputs = set(graphs.tensors_in(graph.outputs))
    names = {node.name for node in graph.nodes if node not in folded}
    instead, nodes = {}, []

    def value(item):
        return instead.get(item, item) if isinstance(item, graphs.Tensor) else item

    for node in graph.nodes:
        args = tf.nest.map_structure(value, node.args)
        kwargs = tf.nest.map_structure(value, node.kwargs)
        if node not in folded:
            nodes.append(dataclasses.replace(node, args=args, kwargs=kwargs))
            continue
        source = value(node.inputs[0])
        if node.outputs[0] not in outputs:
            instead[node.outputs[0]] = source
            continue
        # An output of the model goes by the name of its layer, which is kept.
        name = node.name
        while name in names:
            name += "_folded"
        names.add(name)
        policy = node.layer.dtype_policy
        identity = keras.layers.Activation("linear", name=name, dtype=policy)
        nodes.append(graphs.Node(identity, name, (source,), {}, node.outputs))
    return dataclasses.replace(graph, nodes=nodes)
