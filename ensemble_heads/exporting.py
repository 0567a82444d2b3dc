"""Models as SavedModels that need neither this package nor Keras to be loaded."""

import keyword
import operator
import os
import re
import shutil
import tempfile

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from ensemble_heads import folding, graph, model_inputs
from ensemble_heads.local_paths import local_path
from ensemble_heads.multi_head_model import MultiHeadModel

_MOST_CONSTANTS = 2**31 - 2**24  # bytes: a protocol buffer's limit, less the graph's


def export(model, directory, heads=None, fold_batch_norm=True, freeze=False):
    """Writes a model as a SavedModel for serving.

    Signatures, each for any batch size, with the names of the model's inputs and
    outputs (inputs as Python can name them: `my-input` is served as `my_input`):

    * `serving_default`: what `model` predicts; of a multi-headed model, the ensemble.
    * `heads`: of a multi-headed model only, what every head says, `[batch, heads, …]`.

    ```python
    >>> import os, tempfile
    >>> import tensorflow as tf
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> features = keras.Input((3,), name="features")
    >>> scores = keras.layers.Dense(2, name="scores")(features)
    >>> path = os.path.join(tempfile.mkdtemp(), "serving", "1")
    >>> path = eh.export(keras.Model(features, scores), path)
    >>> serve = tf.saved_model.load(path).signatures["serving_default"]
    >>> serve(features=tf.ones([5, 3]))["scores"].shape
    TensorShape([5, 2])

    ```

    Args:
        model: `eh.MultiHeadModel`, functional `keras.Model` or built Sequential. Never
            changed.
        directory: str or path that does not exist yet; folders above it are made.
            It is written under a temporary name beside it and then renamed, so that
            a server never sees half a model.
        heads: int or list of int, the heads of a multi-headed model to keep; the
            ensemble is that of these heads. Default: all.
        fold_batch_norm: bool, whether to fold the batch norms; what cannot be folded
            is exported as it is.
        freeze: bool, whether weights become constants of the graph, at most 2 GB.
            TensorFlow then lays them out once for its kernels and not with every
            call, which tells at small batches of convolutional models (measured by
            benchmarks/inference.py); writing and the first call take longer, and the
            weights can no longer be read as variables.

    Returns:
        `directory` as a str.

    Raises:
        ValueError: `directory` exists or is a URL, `model` is a subclassed model, or
            `heads` are given for a model without heads or name heads that it does not
            have; or the weights are too large for `freeze`.
    """
    directory = os.path.abspath(local_path("directory", directory))
    if os.path.lexists(directory):
        raise ValueError(
            "`directory` must not exist yet: nothing is overwritten. Choose another "
            f"or remove it first. Received: directory={directory}"
        )
    if not isinstance(model, MultiHeadModel) and not graph.is_functional(model):
        raise ValueError(
            "`model` must be an `eh.MultiHeadModel` or a functional keras.Model, whose "
            "inputs have known shapes. A subclassed model can be exported through "
            "`keras.Model(inputs, subclassed(inputs))`. "
            f"Received: model={model!r} of class {type(model).__name__}"
        )
    if heads is not None:
        model = model_of_heads(model, heads)
    if getattr(model, "devices", None):
        model = model.with_devices(None)  # they would be asked for where it is loaded
    if fold_batch_norm:
        model, _ = folding.fold_where_possible(model)
    signatures = _signatures(model, freeze)
    _write(_module(model, signatures), signatures, directory)
    return directory


def model_of_heads(model, heads):
    """The multi-headed model of some of a model's heads.

    Args:
        model: `eh.MultiHeadModel`.
        heads: int or list of int.

    Raises:
        ValueError: see `export`.
    """
    if not isinstance(model, MultiHeadModel):
        raise ValueError(
            "`heads` must be left out for a model without heads. "
            f"Received: heads={heads!r} and a model of class {type(model).__name__}"
        )
    several = isinstance(heads, list | tuple | range)
    try:
        indices = [operator.index(head) for head in (heads if several else [heads])]
    except TypeError as error:
        raise ValueError(
            f"`heads` must be an index or a list of indices. Received: heads={heads!r}"
        ) from error
    return model.select_heads(indices)


def _signatures(model, freeze):
    """{name of signature: concrete function}."""
    specs = model_inputs.input_specs(model)
    names = _unique([_identifier(name) for name in _input_names(specs)])
    outputs = _output_names(model)

    def infer(inputs):
        return model(inputs, training=False)

    functions = {"serving_default": infer}
    if isinstance(model, MultiHeadModel):
        functions["heads"] = model.head_predictions
    functions = {
        key: lambda *flat, function=function: tf.nest.flatten(
            function(tf.nest.pack_sequence_as(specs, flat))
        )
        for key, function in functions.items()
    }
    if freeze:
        functions = _frozen(functions, tf.nest.flatten(specs))
    return {
        key: _signature(function, tf.nest.flatten(specs), names, outputs)
        for key, function in functions.items()
    }


def _frozen(functions, specs):
    """Functions of tensors, of one graph in which variables are constants.

    TensorFlow prunes from each what only the others need; on disk, all share the
    constants.
    """
    keys = sorted(functions)  # the order of tf.nest

    @tf.function
    def call(*flat):
        return {key: functions[key](*flat) for key in keys}

    traced = call.get_concrete_function(*specs)
    size = sum(v.shape.num_elements() * v.dtype.size for v in traced.graph.variables)
    if size > _MOST_CONSTANTS:
        raise ValueError(
            f"`freeze` must be False for weights of more than {_MOST_CONSTANTS:,} "
            "bytes, which TensorFlow's graphs cannot hold. Received: freeze=True and "
            f"{size:,} bytes"
        )
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    # Handles of lookup tables stay, as further arguments.
    captured = {inside.name: outside for outside, inside in traced.graph.captures}
    tables = [captured[tensor.name] for tensor in constant.inputs[len(specs) :]]
    places = tf.nest.pack_sequence_as(
        traced.structured_outputs, range(len(constant.outputs))
    )

    def one_of(key):
        def function(*flat):
            results = constant(*flat, *tables)
            return [results[place] for place in places[key]]

        return function

    return {key: one_of(key) for key in keys}


def _module(model, signatures):
    """A `tf.Module` that holds the raw variables that the signatures use.

    The model itself stays in the functions' closures: on Keras 3, saving it as part of
    the module stores every variable twice.
    """
    used = [v for function in signatures.values() for v in function.graph.variables]
    module = tf.Module()
    module.weights = list({id(variable): variable for variable in used}.values())
    module.resources = _resources(model)
    return module


def _signature(function, specs, names, outputs):
    """Concrete function of named tensors, giving a dict of named tensors."""

    @tf.function
    def serve(**inputs):
        results = function(*(inputs[name] for name in names))
        return dict(zip(outputs, results, strict=True))

    return serve.get_concrete_function(
        **{
            name: tf.TensorSpec(spec.shape, spec.dtype, name)
            for name, spec in zip(names, specs, strict=True)
        }
    )


def _input_names(specs):
    if isinstance(specs, dict):
        return sorted(specs)  # the order of tf.nest
    return [spec.name for spec in tf.nest.flatten(specs)]


def _identifier(name):
    """A name that the arguments of a signature can have."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not name[:1].isalpha():  # TensorFlow takes no underscore in front either
        name = f"input_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def _output_names(model):
    """Names of the outputs, in the order of tf.nest."""
    if isinstance(model, MultiHeadModel):
        return _unique(model.outputs_like.names)
    outputs = graph.read(model).outputs
    if isinstance(outputs, dict) and not any(
        isinstance(item, dict | list | tuple) for item in outputs.values()
    ):
        return sorted(outputs)
    return _unique([tensor.name for tensor in tf.nest.flatten(outputs)])


def _unique(names):
    """The names, numbered where one occurs again."""
    unique = []
    for name in names:
        free, number = name, 0
        while free in unique:
            number += 1
            free = f"{name}_{number}"
        unique.append(free)
    return unique


def _resources(model):
    """Lookup tables of the model's layers, which a SavedModel must know of."""
    return [
        value
        for layer in model._flatten_layers(include_self=False)
        for value in vars(layer).values()
        if isinstance(value, tf.saved_model.experimental.TrackableResource)
    ]


def _write(module, signatures, directory):
    parent, name = os.path.split(directory)
    try:
        os.makedirs(parent, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            "`directory` must lie in a folder, but a part of its path is a file: "
            f"{error.filename}. Received: directory={directory}"
        ) from error
    temporary = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
    try:
        # One level down, since mkdtemp's own folder is for its user's eyes only.
        written = os.path.join(temporary, name)
        tf.saved_model.save(module, written, signatures=signatures)
        os.rename(written, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
