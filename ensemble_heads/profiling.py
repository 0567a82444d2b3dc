"""Parameters and FLOPs of a model, layer by layer, and what could not be counted."""

import collections
import inspect

import numpy as np
import tensorflow as tf

from ensemble_heads import flop_counting, folding, model_inputs
from ensemble_heads.call_recording import CallRecorder
from ensemble_heads.ensemblers import Ensembler
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.profile_tables import BranchCost, Profile, Row, Uncounted

OTHER = "(other)"


def profile(model, fold_batch_norm=True, input_shape=None):
    """Counts the parameters and FLOPs of a model.

    FLOPs are those of `tf.compat.v1.profiler` on the inference graph for one example:
    two per multiply-add of a convolution or matrix product, one per element of an
    addition. Operations that it cannot count are listed, never silently 0.

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> images = keras.Input((8, 8, 3))
    >>> model = keras.Model(images, keras.layers.Conv2D(4, 3, name="conv")(images))
    >>> result = eh.profile(model)
    >>> result.parameters, result.flops  # 3*3*3*4 + 4; 6*6*4 * (2*3*3*3 + 1)
    (112, 7920)

    ```

    Args:
        model: a Keras model: functional, Sequential, `eh.MultiHeadModel`, or
            subclassed.
        fold_batch_norm: bool, whether to fold the batch norms first. What cannot be
            folded stays and is listed in `.unfolded_batch_norms`; in a subclassed
            model that is all of them.
        input_shape: shape of one example without the batch, such as `(224, 224, 3)`,
            or for several inputs a list or dict of shapes as the model takes them. A
            `tf.TensorSpec` in place of a shape gives the dtype too. Default: the
            model's own. Needed for subclassed models; fixes unknown dimensions, whose
            operations are otherwise listed as uncounted.

    Returns:
        A `Profile`.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: `input_shape` is missing or does not fit.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a keras.Model. Received: model={model!r} of class "
            f"{type(model).__name__}"
        )
    specs = model_inputs.input_specs(model, input_shape, batch_size=1)
    measured, unfolded = model, ()
    if fold_batch_norm:
        measured, unfolded = folding.fold_where_possible(model)
    counts, layers = _count_flops(measured, specs)
    parameters = _parameters_by_layer(measured, layers)
    total = _size(_weights(model))
    rows = _rows(layers, parameters, counts)
    return Profile(
        name=model.name,
        parameters=sum(row.parameters for row in rows),
        trainable_parameters=_size(model.trainable_weights),
        total_parameters=total,
        folded_parameters=sum(parameters.values()) if fold_batch_norm else None,
        flops=sum(row.flops for row in rows),
        rows=rows,
        branches=_branches(measured, layers, rows),
        uncounted=_uncounted(layers, counts),
        folded=bool(fold_batch_norm),
        unfolded_batch_norms=unfolded,
    )


def _count_flops(model, specs):
    """The counts of a model's operations, and {row name: layer}."""
    recorder = CallRecorder()
    flags = inspect.signature(model.call).parameters
    inference = {"training": False} if "training" in flags else {}

    @tf.function
    def infer(inputs):
        return model(inputs, **inference)

    with recorder.recording():
        graph = infer.get_concrete_function(specs).graph
    # After tracing: a subclassed model may make its layers when it is first called.
    layers = _layers_by_name(model)
    counts = flop_counting.count_graph(graph, recorder, set(map(id, layers.values())))
    return counts, layers


def _layers_by_name(model):
    """{row name: layer or Keras 3 operation} of a model, nested models opened."""
    rows, seen = {}, set()

    def visit(container, prefix):
        for layer in _children(container):
            if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
                continue
            seen.add(id(layer))
            if isinstance(layer, keras.Model):
                visit(layer, f"{prefix}{layer.name}/")
            elif _holds_models(layer):
                visit(layer, prefix)
            elif isinstance(layer, Ensembler) and _children(layer):
                visit(layer, f"{prefix}{layer.name}/")
            else:
                rows[_free_name(prefix + layer.name, rows)] = layer

    visit(model, "")
    return rows


def _children(container):
    if KERAS_3 and hasattr(container, "operations"):  # functional: bare ops as well
        return container.operations
    if isinstance(container, keras.Model):
        return container.layers
    return container._flatten_layers(include_self=False, recursive=False)


def _holds_models(layer):
    if not isinstance(layer, keras.layers.Layer):
        return False
    inner = layer._flatten_layers(include_self=False)
    return any(isinstance(sublayer, keras.Model) for sublayer in inner)


def _free_name(name, taken):
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _weights(model):
    """The weights of a model without the state of its metrics (Keras 2 adds it)."""
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    return [w for w in model.weights if id(w) not in metrics]


def _size(weights):
    return sum({id(w): int(np.prod(w.shape)) for w in weights}.values())


def _parameters_by_layer(model, layers):
    """{row name: parameters}; a weight counts where it is met first."""
    left = {id(weight): weight for weight in _weights(model)}
    parameters = {}
    for name, layer in layers.items():
        own = [w for w in getattr(layer, "weights", []) if id(w) in left]
        parameters[name] = _size(own)
        for weight in own:
            left.pop(id(weight), None)
    parameters[OTHER] = _size(left.values())
    return parameters


def _rows(layers, parameters, counts):
    flops = collections.Counter()
    for count in counts:
        flops[id(count.layer)] += count.flops
    rows = [
        Row(name, type(layer).__name__, parameters[name], flops.pop(id(layer), 0))
        for name, layer in layers.items()
    ]
    rest = sum(flops.values())
    if rest or parameters[OTHER]:
        rows.append(Row(OTHER, "", parameters[OTHER], rest))
    return tuple(rows)


def _branches(model, layers, rows):
    """The rows of a multi-headed model summed up by its parts."""
    if not isinstance(model, MultiHeadModel):
        return ()
    parts = [model.trunk, *model.wrapper.layout.parts]
    place = {
        id(layer): i
        for i, part in enumerate(parts)
        for layer in _layers_by_name(part).values()
    }
    costs = [[0, 0] for _ in (*parts, OTHER)]
    for row in rows:
        cost = costs[place.get(id(layers.get(row.name)), len(parts))]
        cost[0] += row.parameters
        cost[1] += row.flops
    names = [*(part.name for part in parts), OTHER]
    return tuple(BranchCost(name, *cost) for name, cost in zip(names, costs))


def _uncounted(layers, counts):
    names = {id(layer): name for name, layer in layers.items()}
    return tuple(
        Uncounted(
            count.op_type, count.node, names.get(id(count.layer), OTHER), count.reason
        )
        for count in counts
        if count.reason
    )
