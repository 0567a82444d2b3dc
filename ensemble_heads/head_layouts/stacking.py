"""Builds one functional model that runs equal heads at once, from the graph of one.

Its tensors are either *shared*, the same for all heads, or *stacked*: the channels of
all heads side by side on the last axis. What the heads take is shared; the first layer
with weights, wide enough for all of them, makes a tensor stacked. How a kind of layer
is stacked is in `stack_rules.py`.
"""

import dataclasses

import tensorflow as tf

from ensemble_heads import graph as graphs
from ensemble_heads.head_layouts import per_head_initializer as forms
from ensemble_heads.head_layouts.stacked_layers import TileHeads
from ensemble_heads.keras_api import keras


class NotStackable(ValueError):
    """Heads cannot be run as one; the message says why."""


@dataclasses.dataclass
class Value:
    """A tensor of the stacked model.

    Attributes:
        tensor: symbolic Keras tensor.
        shared: bool, the same for all heads.
    """

    tensor: object
    shared: bool


@dataclasses.dataclass
class Stacked:
    """A layer with the weights of all heads.

    Attributes:
        position: int, which of the head's layers it stands for (`layers_of`).
        layer: the stacked Keras layer.
        form: how the heads lie in its first weight; in the others they lie side by
            side on the last axis.
    """

    position: int
    layer: object
    form: str

    def set_weights(self, layers):
        """Takes the weights of the heads' own layers, one layer for each head."""
        each = [layer.get_weights() for layer in layers]
        self.layer.set_weights(
            [
                forms.join(list(arrays), self._form(i))
                for i, arrays in enumerate(zip(*each, strict=True))
            ]
        )

    def get_weights(self, num_heads):
        """List of the weights of each head's own layer."""
        arrays = self.layer.get_weights()
        each = [
            forms.split(array, num_heads, self._form(i))
            for i, array in enumerate(arrays)
        ]
        return [list(weights) for weights in zip(*each, strict=True)]

    def _form(self, number):
        return forms.ON_CHANNELS if number else self.form


class Stacker:
    """Stacks one graph of a head; rules work on it.

    Args:
        graph: `Graph` of a head, whose layers are templates.
        num_heads: int.
        draws: {layer name: {key of an initializer: list of seeds}}; where a seed is
            missing it is None.
        products: {layer name: product} of convolutions with inputs of their own.
        choose_product: callable `(StackedConv, shape of its input) -> product` for
            those that are not among `products`.

    Attributes:
        stacked: list of `Stacked`.
        products: dict as above, of all such convolutions.
    """

    def __init__(self, graph, num_heads, draws, products, choose_product):
        self.num_heads = num_heads
        self.products, self.choose_product = dict(products), choose_product
        self.stacked = []
        self._graph, self._draws = graph, draws
        self._values, self._made, self._names = {}, {}, {}
        self._positions = {id(layer): i for i, layer in enumerate(layers_of(graph))}

    def build(self, rule_of, name):
        """The stacked functional `keras.Model`, features -> flat list of outputs.

        Args:
            rule_of: callable `layer -> rule or None`.
            name: str.

        Raises:
            NotStackable: a layer has no rule, or is set up in a way that it rules out.
        """
        inputs = tf.nest.map_structure(self._input, self._graph.inputs)
        for node in self._graph.nodes:
            self._names[id(node.layer)] = node.name
            rule = rule_of(node.layer)
            if rule is None:
                raise self.error(node, "there is no rule for it")
            if len(node.inputs) != len(node.values):
                raise self.error(node, "it takes a mask")
            rule(self, node)
        flat = graphs.tensors_in(self._graph.outputs)
        outputs = [self.of_each_head(self._values[t]).tensor for t in flat]
        for tensor in flat:
            if len(tensor.shape) < 2:
                raise NotStackable(
                    "Heads must end in outputs [batch, …, channels] to be stacked. "
                    f"Received: an output {tensor}"
                )
        return keras.Model(inputs, outputs, name=name)

    def values(self, node):
        """List of the `Value` that a node takes."""
        return [self._values[tensor] for tensor in node.values]

    def calls(self, layer):
        """How often the head calls a layer."""
        return sum(node.layer is layer for node in self._graph.nodes)

    def of_each_head(self, value):
        """The same as a stacked `Value`."""
        if not value.shared:
            return value
        key = ("tile", id(value))
        if key not in self._made:
            tile = TileHeads(self.num_heads, dtype=value.tensor.dtype)
            self._made[key] = (Value(tile(value.tensor), False), value)
        return self._made[key][0]

    def made(self, node, make, form=None):
        """The new layer for a node's layer, made at its first call.

        Args:
            make: callable `() -> layer`.
            form: form of the first weight, for layers with weights.
        """
        layer_id = id(node.layer)
        if layer_id not in self._made:
            new = make()
            self._made[layer_id] = new
            if form is not None:
                position = self._positions[layer_id]
                self.stacked.append(Stacked(position, new, form))
        return self._made[layer_id]

    def initializers(self, node, form):
        """{key: initializer of all heads} for the configuration of a stacked layer."""
        config, found = graphs.config_of(node.layer), {}
        draws = self._draws.get(node.name, {})
        for key in initializers_in(config):
            seeds = draws.get(key, [None] * self.num_heads)
            first = key.startswith(("kernel", "depthwise"))
            each = form if first else forms.ON_CHANNELS
            found[key] = forms.PerHead(config[key], seeds, each)
        return found

    def run(self, node, layer, values):
        """Calls the new layer as the node calls the old one, on these values."""
        tensors = iter([value.tensor for value in values])

        def value(item):
            return next(tensors) if isinstance(item, graphs.Tensor) else item

        args = tf.nest.map_structure(value, node.args)
        kwargs = tf.nest.map_structure(value, node.kwargs)
        self.finish(node, layer(*args, **kwargs), all(v.shared for v in values))

    def finish(self, node, outputs, shared=False):
        """Tells what a node gives."""
        flat = tf.nest.flatten(outputs)
        for tensor, made in zip(node.outputs, flat, strict=True):
            self._values[tensor] = Value(made, shared)

    def error(self, node, reason):
        """The exception to raise for a node that cannot be stacked."""
        return NotStackable(
            f"Layer `{node.name}` ({type(node.layer).__name__}) cannot be stacked: "
            f'{reason}. Keep execution="separate" for these heads, or register a rule '
            "(ensemble_heads/head_layouts/stack_rules.py)"
        )

    def _input(self, tensor):
        if len(tensor.shape) < 2:
            raise NotStackable(
                "Heads must take features [batch, …, channels] to be stacked. "
                f"Received: features {tensor}"
            )
        original = self._graph.input_layers[tensor]
        made = type(original).from_config(original.get_config()).output
        self._values[tensor] = Value(made, True)
        return made


def layers_of(graph):
    """List of the layers of a graph, each once, in the order of their calls."""
    return list({id(node.layer): node.layer for node in graph.nodes}.values())


def initializers_in(config):
    """The keys of a layer's configuration that hold initializers."""
    return [key for key, value in config.items() if key.endswith("_initializer")]


def seed_of(initializer):
    """The seed in an initializer's configuration, or None."""
    config = initializer.get("config") if isinstance(initializer, dict) else None
    return config.get("seed") if isinstance(config, dict) else None
