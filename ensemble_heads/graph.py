"""A functional Keras model as plain data: read it, rewrite it, build it again.

`read` turns a functional model (or a built Sequential) of either Keras line into a
`Graph` without touching the model: nested models are inlined, so that every call of
every layer is one `Node`. `Graph.build` makes a new model from fresh clones of the
layers. Surgery, folding and exporting all work on this form.
"""

import collections
import dataclasses
import inspect

import tensorflow as tf

from ensemble_heads import keras_networks
from ensemble_heads.keras_api import keras


class Tensor:
    """A value between two layers; compared by identity.

    Attributes:
        shape: tuple of int or None, the batch first.
        dtype: str, as `"float32"`.
        name: str, for messages: the name of the layer that makes it.
    """

    def __init__(self, shape, dtype, name):
        self.shape = tuple(shape)
        self.dtype = dtype
        self.name = name

    def __repr__(self):
        shape = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"`{self.name}` ({shape}, {self.dtype})"


@dataclasses.dataclass(eq=False)
class Node:
    """One call of one layer or bare operation.

    Attributes:
        layer: the original Keras layer (or Keras 3 operation). A template: never
            call it or change it.
        name: str, unique in the graph per layer; the clone of `layer` is called so.
        args, kwargs: what it was called with; tensors are `Tensor` objects.
        outputs: list of `Tensor`, flat.
    """

    layer: object
    name: str
    args: tuple
    kwargs: dict
    outputs: list

    @property
    def inputs(self):
        """Flat list of the `Tensor` objects among the arguments."""
        return tensors_in((self.args, self.kwargs))

    @property
    def values(self):
        """The inputs without the masks, which Keras 3 passes as arguments too."""
        kwargs = {k: v for k, v in self.kwargs.items() if not k.endswith("mask")}
        return tensors_in((self.args, kwargs))


@dataclasses.dataclass(eq=False)
class Graph:
    """A functional model as data; see the module's docstring.

    Attributes:
        inputs, outputs: structures (tensor, list or dict) of `Tensor`.
        nodes: list of `Node`, each after those it takes its inputs from; the input
            layers are not among them.
        input_layers: {Tensor: original InputLayer}, for inputs that have one.
        name: str, the model's name.
    """

    inputs: object
    outputs: object
    nodes: list
    input_layers: dict
    name: str

    def producer(self, tensor):
        """The `Node` that makes `tensor`; None for an input."""
        return self.producers().get(tensor)

    def producers(self):
        """{Tensor: the Node that makes it}."""
        return {out: node for node in self.nodes for out in node.outputs}

    def consumers(self):
        """{Tensor: list of the Nodes that take it}; the model's outputs not counted."""
        table = collections.defaultdict(list)
        for node in self.nodes:
            for tensor in node.inputs:
                if node not in table[tensor]:
                    table[tensor].append(node)
        return table

    def build(self, make_layer=None, make_arguments=None, name=None, input_shape=None):
        """Makes a new functional model of fresh layers.

        Args:
            make_layer: callable `(original layer, name) -> new layer`, called once
                per layer, however often the layer is used. Default: `clone_layer`.
            make_arguments: callable `Node -> (args, kwargs)` that may change
                constants among a call's arguments. Default: the node's own.
            name: str, name of the model. Default: the name of the graph.
            input_shape: callable `Tensor -> shape`, the batch first, of the model's
                inputs. Default: their own.

        Returns:
            A `keras.Model` with inputs and outputs structured as the graph's.
        """
        make_layer = make_layer or clone_layer
        values, made = {}, {}
        for position, tensor in enumerate(tensors_in(self.inputs)):
            shape = tensor.shape if input_shape is None else input_shape(tensor)
            values[tensor] = self._make_input(tensor, position, shape)

        def value(item):
            return values[item] if isinstance(item, Tensor) else item

        for node in self.nodes:
            if id(node.layer) not in made:
                made[id(node.layer)] = make_layer(node.layer, node.name)
            args, kwargs = (
                make_arguments(node) if make_arguments else (node.args, node.kwargs)
            )
            args = tf.nest.map_structure(value, args)
            kwargs = tf.nest.map_structure(value, kwargs)
            results = tf.nest.flatten(made[id(node.layer)](*args, **kwargs))
            values.update(zip(node.outputs, results, strict=True))
        return keras.Model(
            tf.nest.map_structure(value, self.inputs),
            tf.nest.map_structure(value, self.outputs),
            name=name or self.name,
        )

    def _make_input(self, tensor, position, shape):
        if tensor in self.input_layers:
            original = self.input_layers[tensor]
            return type(original).from_config(original.get_config()).output
        return keras.Input(
            shape=shape[1:],
            batch_size=shape[0],
            dtype=tensor.dtype,
            name=f"features_{position}" if position else "features",
        )


def read(model):
    """Reads a functional model into a `Graph`, without changing it.

    Args:
        model: functional `keras.Model` or built `keras.Sequential`. Models nested in
            it are inlined; a `training` argument given to a nested model is handed
            on to its layers.

    Returns:
        A `Graph`.

    Raises:
        ValueError: `model` is a subclassed model or a Sequential without a shape.
    """
    network = keras_networks.network(model)
    if network is None:
        raise ValueError(keras_networks.not_functional(model))
    reader = _Reader()
    return reader.read(model, network)


def is_functional(model):
    """Whether `read` can take `model`."""
    return keras_networks.network(model) is not None


def tensors_in(structure):
    """Flat list of the `Tensor` objects in a structure."""
    return [t for t in tf.nest.flatten(structure) if isinstance(t, Tensor)]


def ancestors(graph, tensors):
    """Set of the tensors that any of these is made from, and themselves."""
    found = set(tensors)
    for node in reversed(graph.nodes):
        if found.intersection(node.outputs):
            found.update(node.inputs)
    return found


def clone_layer(layer, name=None, /, **changes):
    """A new layer of the same class and configuration, with its own weights.

    Args:
        layer: a Keras layer or a Keras 3 operation.
        name: str, its name. Default: the same name.
        **changes: configuration entries to replace.

    Raises:
        ValueError: the layer cannot be made from its own configuration.
    """
    if isinstance(layer, keras.layers.Lambda):
        return _clone_lambda(layer, name, **changes)
    config = dict(config_of(layer))
    if "name" in config or isinstance(layer, keras.layers.Layer):
        config["name"] = name or layer.name
    config.update(changes)
    try:
        return type(layer).from_config(_accepted(layer, config))
    except Exception as error:
        raise ValueError(_not_clonable(layer, error)) from error


def config_of(layer):
    """The configuration of a layer, with the user's own functions as they are.

    Raises:
        ValueError: it has none.
    """
    try:
        config = layer.get_config()
        return {**config, **_own_functions(layer, config)}
    except Exception as error:
        raise ValueError(_not_clonable(layer, error)) from error


def _not_clonable(layer, error):
    return (
        f"Layer `{layer.name}` of class {type(layer).__name__} cannot be made "
        "again from its own `get_config()`, so it cannot be cloned. Check the "
        "`overrides` of this layer if there are any; give a class of your own a "
        "`get_config` that returns every constructor argument. "
        f"Received: {type(error).__name__}: {error}"
    )


def _own_functions(layer, config):
    """The user's own functions (an activation) among a layer's configuration.

    While they are alive they can be handed on as they are, registered or not.
    """
    found = {}
    for key in config:
        value = getattr(layer, key, None)
        if key == "function" or not inspect.isfunction(value):  # a bare operation
            continue
        if not value.__module__.startswith("keras."):
            found[key] = value
    return found


def _accepted(layer, config):
    """The configuration without the entries of every layer that some do not take.

    Layers without weights get by without the name and dtype that their constructor
    has no place for (keras-cv's activations).
    """
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    custom = (
        type(layer).from_config.__func__ is not keras.layers.Layer.from_config.__func__
    )
    if takes_any or custom or getattr(layer, "weights", None):
        return config
    names = {parameter.name for parameter in parameters}
    general = {"name", "dtype", "trainable"} - names
    return {key: value for key, value in config.items() if key not in general}


def _clone_lambda(layer, name, output_shape=None, **changes):
    # A Python lambda cannot be rebuilt from a configuration in Keras 3's safe mode;
    # the function itself holds no state of the layer's, so both may share it.
    config = layer.get_config()
    clone = keras.layers.Lambda(
        layer.function,
        output_shape=output_shape or layer._output_shape,
        name=name or layer.name,
        **{
            "arguments": dict(layer.arguments or {}),
            "dtype": config.get("dtype"),
            "trainable": config.get("trainable", True),
            **changes,
        },
    )
    clone.mask = layer.mask
    return clone


class _Reader:
    """Collects the nodes of a model and of the models nested in it."""

    def __init__(self):
        self.nodes = []
        self.names = {}
        self.input_layers = {}

    def read(self, model, network):
        tensors = {}
        for keras_tensor in network.inputs:
            layer = keras_networks.history(keras_tensor)
            tensor = self._new_tensor(keras_tensor, layer.name)
            tensors[id(keras_tensor)] = tensor
            self.input_layers[tensor] = layer
            self.names[id(layer)] = layer.name
        self._read_nodes(network, tensors, prefix="", training=None)
        inputs, outputs = keras_networks.structures(network)

        def known(keras_tensor):
            return tensors[id(keras_tensor)]

        return Graph(
            inputs=tf.nest.map_structure(known, inputs),
            outputs=tf.nest.map_structure(known, outputs),
            nodes=self.nodes,
            input_layers=self.input_layers,
            name=model.name,
        )

    def _read_nodes(self, network, tensors, prefix, training):
        def known(item):
            return (
                tensors.get(id(item), item)
                if keras_networks.is_symbolic(item)
                else item
            )

        for keras_node in keras_networks.nodes(network):
            layer, args, kwargs, outputs = keras_networks.node_parts(keras_node)
            if isinstance(layer, keras.layers.InputLayer):
                continue
            args = tf.nest.map_structure(known, args)
            kwargs = tf.nest.map_structure(known, kwargs)
            if training is not None and kwargs.get("training") is None:
                kwargs = self._with_training(layer, kwargs, training)
            nested = keras_networks.network(layer)
            if nested is None:
                results = self._read_call(layer, args, kwargs, outputs, prefix)
            else:
                results = self._read_nested(layer, nested, args, kwargs, prefix)
            tensors.update(zip(map(id, outputs), results, strict=True))

    def _read_call(self, layer, args, kwargs, outputs, prefix):
        name = self._name(layer, prefix)
        results = [self._new_tensor(out, name) for out in outputs]
        self.nodes.append(Node(layer, name, tuple(args), dict(kwargs), results))
        return results

    def _read_nested(self, model, network, args, kwargs, prefix):
        given = list(args) or [kwargs.pop("inputs")]
        tensors = _match_inputs(model, network, given[0])
        prefix = f"{prefix}{model.name}_"
        self._read_nodes(network, tensors, prefix, kwargs.get("training"))
        return [
            tensors[id(out)]
            for out in tf.nest.flatten(keras_networks.structures(network)[1])
        ]

    def _with_training(self, layer, kwargs, training):
        accepts = keras_networks.takes_training(layer)
        return {**kwargs, "training": training} if accepts else kwargs

    def _name(self, layer, prefix):
        if id(layer) not in self.names:
            taken = set(self.names.values())
            name, number = layer.name, 1
            if name in taken:
                name = prefix + layer.name
            while name in taken:
                number += 1
                name = f"{prefix}{layer.name}_{number}"
            self.names[id(layer)] = name
        return self.names[id(layer)]

    def _new_tensor(self, keras_tensor, name):
        return Tensor(
            keras_tensor.shape, keras_networks.dtype_name(keras_tensor.dtype), name
        )


def _match_inputs(model, network, given):
    """{id of a nested model's input: the Tensor it is called with}."""
    own = keras_networks.structures(network)[0]
    if isinstance(given, dict) and not isinstance(own, dict):
        given = [given[keras_networks.history(t).name] for t in network.inputs]
        own = list(network.inputs)
    flat, own = tensors_in(given), tf.nest.flatten(own)
    if len(flat) != len(own):
        raise ValueError(
            f"Nested model `{model.name}` takes {len(own)} tensors. "
            f"Received: a call with {len(flat)} tensors"
        )
    return dict(zip(map(id, own), flat, strict=True))
