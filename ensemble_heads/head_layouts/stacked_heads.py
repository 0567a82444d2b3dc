"""Heads of equal shape that hold their variables together and run at once."""

import dataclasses

import tensorflow as tf

from ensemble_heads import graph as graphs
from ensemble_heads.head_layouts import measuring, stack_rules
from ensemble_heads.head_layouts.head_layout import HeadLayout, check_num_heads
from ensemble_heads.head_layouts.stacked_layers import StackedConv, heads_first
from ensemble_heads.head_layouts.stacking import (
    NotStackable,
    Stacker,
    initializers_in,
    layers_of,
    seed_of,
)
from ensemble_heads.keras_api import keras, register


@dataclasses.dataclass
class _Hidden:
    """What Keras shall not track as attributes of a layer."""

    template: keras.Model
    graph: graphs.Graph
    draws: dict
    stacker: Stacker


@register
class StackedHeads(HeadLayout):
    """Heads of equal shape whose variables are stacked, run as one model.

    The first layer of all heads is one wide layer, later ones are batched products;
    what works on single channels runs on those of all heads side by side. The numbers
    are those of `SeparateHeads` with the same weights, up to the order of sums.

    Args:
        template: functional `keras.Model`, one head, features -> raw outputs. Its
            layers' configurations count, not its weights.
        num_heads: int >= 1.
        draws: {layer name: {key of an initializer: list of a seed for each head}};
            what is missing is drawn without a seed.
        products: {layer name: `"loop"`, `"grouped"` or `"matmul"`}, how convolutions
            with an input for each head are run. Default: what is measured as fastest
            on this device.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What a head takes: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of a head's outputs.

    Raises:
        ValueError: a layer that cannot be stacked; the message names it.
    """

    execution = "stacked"

    def __init__(self, template, num_heads, draws=None, products=None, **kwargs):
        check_num_heads(num_heads)
        graph = graphs.read(template)
        draws = {} if draws is None else dict(draws)
        products = {} if products is None else dict(products)
        stacker = Stacker(graph, num_heads, draws, products, measuring.fastest_product)
        stack = stacker.build(stack_rules.find, "stack")
        super().__init__([stack], template, **kwargs)
        self._num_heads = num_heads
        self._hidden = _Hidden(template, graph, draws, stacker)

    @classmethod
    def from_heads(cls, heads, products=None, **kwargs):
        """Stacks the present weights of heads that exist already; they stay as are.

        Args:
            heads: list of functional `keras.Model`, features -> raw outputs.
            products, **kwargs: as for the class.

        Raises:
            ValueError: heads that differ in more than their weights, or hold a layer
                that cannot be stacked; the message names the layer.
        """
        check_num_heads(len(heads))
        read = [graphs.read(head) for head in heads]
        _check_equal(read)
        layers = [layers_of(graph) for graph in read]
        made = cls(heads[0], len(heads), _draws_of(read), products, **kwargs)
        made.set_head_weights(layers)
        return made

    def set_head_weights(self, layers):
        """Takes the weights of every head.

        Args:
            layers: list over heads of the list of a head's layers (`layers_of`).
        """
        for stacked in self._hidden.stacker.stacked:
            stacked.set_weights([own[stacked.position] for own in layers])

    @property
    def heads(self):
        """Fresh copies of the heads, with the present values of their weights."""
        return self._copies(range(self.num_heads))

    def head(self, index):
        return self._copies([index])[0]

    @property
    def products(self):
        """How convolutions with an input for each head are run, by layer name."""
        return dict(self._hidden.stacker.products)

    def functional_parts(self):
        return [self._hidden.template]

    @property
    def num_heads(self):
        return self._num_heads

    def stacked_logits(self, features, training=None):
        stack = self.parts[0]
        flat = tf.nest.flatten(stack(features, training=training))
        flat = self.outputs_like.flatten(self._in_structure(flat), "outputs")
        masks = [getattr(tensor, "_keras_mask", None) for tensor in flat]
        return [heads_first(tensor, self.num_heads) for tensor in flat], masks

    def prepare(self, jit_compile):
        for stacked in self._hidden.stacker.stacked:
            if isinstance(stacked.layer, StackedConv):
                stacked.layer.under_xla = bool(jit_compile)

    def mapped(self, function):
        heads = [function(head) for head in self.heads]
        return StackedHeads.from_heads(heads, self.products, name=self.name)

    def select(self, indices):
        """A layout of copies of some of the heads; nothing is shared."""
        return StackedHeads.from_heads(self._copies(indices), self.products)

    def get_config(self):
        return {
            **super().get_config(),
            "template": keras.saving.serialize_keras_object(self._hidden.template),
            "num_heads": self.num_heads,
            "draws": self._hidden.draws,
            "products": self.products,
        }

    @classmethod
    def from_config(cls, config):
        template = keras.saving.deserialize_keras_object(config["template"])
        return cls(**{**config, "template": template})

    def _in_structure(self, flat):
        """The stack's flat outputs in the structure of a head's."""
        return tf.nest.pack_sequence_as(self._hidden.graph.outputs, flat)

    def _copies(self, indices):
        graph = self._hidden.graph
        weights = {
            stacked.position: stacked.get_weights(self.num_heads)
            for stacked in self._hidden.stacker.stacked
        }
        heads = []
        for index in indices:

            def make_layer(layer, name, index=index):
                return self._layer_of(index, layer, name)

            head = graph.build(make_layer, name=f"head_{index}")
            layers = layers_of(graphs.read(head))
            for position, each in weights.items():
                layers[position].set_weights(each[index])
            heads.append(head)
        return heads

    def _layer_of(self, index, layer, name):
        """A copy of a template's layer with the seeds of one head."""
        config, changes = graphs.config_of(layer), {}
        for key, seeds in self._hidden.draws.get(name, {}).items():
            inner = config[key]
            inner = {**inner, "config": {**inner["config"], "seed": seeds[index]}}
            changes[key] = inner
        return graphs.clone_layer(layer, name, **changes)


def _draws_of(read):
    """The `draws` of heads, from their layers' configurations."""
    draws = {}
    for position, layer in enumerate(layers_of(read[0])):
        if not getattr(layer, "weights", None):
            continue
        each = [graphs.config_of(layers_of(graph)[position]) for graph in read]
        seeds = {
            key: [seed_of(config[key]) for config in each]
            for key in initializers_in(each[0])
            if _is_seeded(each[0][key])
        }
        if seeds:
            draws[_name_in(read[0], layer)] = seeds
    return draws


def _is_seeded(initializer):
    return isinstance(initializer, dict) and "seed" in initializer["config"]


def _name_in(graph, layer):
    return next(node.name for node in graph.nodes if node.layer is layer)


def _check_equal(read):
    """Checks that heads differ in their weights and seeds only."""
    first = _form_of(read[0])
    for number, graph in enumerate(read[1:], 1):
        other = _form_of(graph)
        if other == first:
            continue
        pairs = zip(first, other, strict=False)
        where = [i for i, (one, two) in enumerate(pairs) if one != two]
        nodes = [None, *read[0].nodes, None]
        node = nodes[where[0]] if where else None
        place = f"at layer `{node.name}`" if node else "in their number of layers"
        raise NotStackable(
            'Heads must have the same shape under execution="stacked", where one '
            "variable holds the weights of all of them; they may differ in weights "
            'and seeds only. execution="separate" takes any. '
            f"Received: head_0 and head_{number}, which differ {place}"
        )


def _form_of(graph):
    """What has to be equal in all heads: a list of an entry for each call."""
    numbers, positions = {}, {id(k): i for i, k in enumerate(layers_of(graph))}

    def form(item):
        if isinstance(item, graphs.Tensor):
            number = numbers.setdefault(item, len(numbers))
            return (number, item.shape, item.dtype)
        if isinstance(item, dict):
            skipped = ("name", "seed", "build_config")
            return {k: form(v) for k, v in item.items() if k not in skipped}
        if isinstance(item, (list, tuple)):
            return [form(part) for part in item]
        return item if isinstance(item, (str, int, float, type(None))) else str(item)

    entries = [form(graph.inputs)]
    for node in graph.nodes:
        config = form(graphs.config_of(node.layer))
        call = form([list(node.args), node.kwargs, node.outputs])
        entries.append([type(node.layer), positions[id(node.layer)], config, call])
    return [*entries, form(graph.outputs)]
