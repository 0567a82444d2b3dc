"""Ensembles of models that were trained apart."""

import tensorflow as tf

from ensemble_heads import graph as graphs
from ensemble_heads import weight_transfer
from ensemble_heads.cloning import Copy
from ensemble_heads.forking import take_off_activations
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper


def combine(models, ensembler="mean", name="ensemble"):
    """The ensemble of several trained models, as a multi-headed model.

    Its heads are copies of the models, with nothing shared: its trunk only hands the
    inputs on. What works on multi-headed models works on it: `eh.greedy_heads`,
    `select_heads`, `eh.export`, `eh.profile`, and further training, of all together.

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> def network(units):
    ...     inputs = keras.Input((4,))
    ...     hidden = keras.layers.Dense(units, activation="relu")(inputs)
    ...     return keras.Model(inputs, keras.layers.Dense(3, "softmax")(hidden))
    >>> model = eh.combine([network(8), network(8), network(16)])
    >>> model.num_heads, model.links
    (3, 'softmax')

    ```

    Args:
        models: list of functional `keras.Model` or built Sequential, never changed.
            What is inside may differ; inputs and outputs may not.
        ensembler: `"mean"` or a layer, see `eh.ensemblers`.
        name: str, name of the new model.

    Returns:
        An `eh.MultiHeadModel`, not compiled, whose head i predicts what model i does.

    Raises:
        ValueError: no models, one without a graph (a multi-headed one: combine what
            `model.head(i)` gives), or models with other inputs or outputs.

    References:
        Hansen & Salamon 1990, Neural network ensembles.
    """
    models = list(models)
    if not models:
        raise ValueError(f"`models` must hold at least one. Received: models={models}")
    wholes = [_read(model) for model in models]
    bare = [take_off_activations(whole) for whole in wholes]
    _check_alike("take the same inputs", [_signature(w.inputs) for w in wholes])
    _check_alike(
        "give the same outputs",
        [
            (_signature(w.outputs), tuple(links))
            for w, (_, links, _) in zip(wholes, bare)
        ],
    )
    heads = [
        _copy(raw, f"head_{number}", entries)
        for number, (raw, _, entries) in enumerate(bare)
    ]
    links = tf.nest.pack_sequence_as(wholes[0].outputs, bare[0][1])
    inputs = wholes[0].inputs
    trunk = graphs.Graph(inputs, inputs, [], wholes[0].input_layers, "inputs").build()
    wrapper = MultiHeadWrapper.from_heads(heads, links, name="heads")
    return MultiHeadModel(trunk, wrapper, ensembler, name=name)


def copy_of(model, name=None):
    """A functional model with a copy of a model's layers and weights.

    Args:
        model: functional `keras.Model` or built Sequential.
        name: str. Default: the model's own.
    """
    return _copy(_read(model), name or model.name)


def _read(model):
    if isinstance(model, MultiHeadModel):
        raise ValueError(
            "`models` must be plain models, not multi-headed ones, whose heads share "
            "a trunk: combine their heads, as `model.head(0)` gives them. "
            f"Received: `{model.name}` with {model.num_heads} heads"
        )
    return graphs.read(model)


def _copy(graph, name, entries=None):
    copy = Copy(graph, name, seed=0, entries=entries)
    weight_transfer.copy_all(graph, copy)
    return copy.model


def _signature(tensors):
    """Structure, shapes and types, in a form to compare and to show."""
    return tf.nest.map_structure(lambda t: f"{t.shape} {t.dtype}", tensors)


def _check_alike(rule, signatures):
    for number, signature in enumerate(signatures):
        if signature != signatures[0]:
            raise ValueError(
                f"`models` must all {rule}. Received: {signatures[0]} of the first "
                f"model and {signature} of model {number}"
            )
