"""Fresh copies of a graph at other widths, each with draws of its own."""

import random
import zlib

from ensemble_heads import keras_api
from ensemble_heads.graph import clone_layer, config_of, read
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.tracing import sizes_in


def new_seed():
    """A seed from Python's generator, which `keras.utils.set_random_seed` seeds."""
    return random.randrange(2**31)


def derived_seed(seed, *place):
    """A seed of its own for a place (head, layer, weight), the same every time.

    >>> derived_seed(7, "head_0", "conv") != derived_seed(7, "head_1", "conv")
    True
    """
    return zlib.crc32("/".join(map(str, (seed, *place))).encode()) & 0x7FFFFFFF


def places(graph):
    """{name of a node: number of the first so named}.

    Draws follow from these and not from names, since Keras numbers names that it
    gives itself on from model to model.
    """
    found = {}
    for number, node in enumerate(graph.nodes):
        found.setdefault(node.name, number)
    return found


def draws_of(graph, seed, names, places):
    """The seeds with which copies of these names draw their weights.

    Args:
        graph: `Graph` of one such copy.
        seed: int, names: list of str, as for `Copy`.
        places: {name of a node: number} of the graph that is copied.

    Returns:
        {layer name: {key of an initializer: list of a seed for each name}}.
    """
    draws = {}
    for node in graph.nodes:
        if not getattr(node.layer, "weights", None):
            continue
        draws[node.name] = {
            key: [
                derived_seed(seed, name, places[node.name], key, "config")
                for name in names
            ]
            for key, value in config_of(node.layer).items()
            if isinstance(value, dict) and "seed" in value.get("config", {})
        }
    return draws


def faithful_copy(model):
    """A copy of a functional model with all it is made of: layers, seeds, weights."""
    pairs = []

    def make_layer(layer, name):
        new = clone_layer(layer, name)
        pairs.append((layer, new))
        return new

    copy = read(model).build(make_layer, name=model.name)
    for original, new in pairs:
        if isinstance(new, keras.layers.Layer):
            copy_state(original, new)
    return copy


def copy_state(layer, new):
    """Gives a clone the original's weights, what follows from them, and vocabulary."""
    pairs = zip(_with_sublayers(layer), _with_sublayers(new), strict=True)
    for old_part, new_part in pairs:
        if hasattr(old_part, "get_vocabulary"):
            _copy_vocabulary(old_part, new_part)
        # Layer by layer: Keras 2's `get_weights` sorts by what is frozen, which a
        # clone's sublayers need not be.
        for value, variable in zip(
            _own_variables(old_part), _own_variables(new_part), strict=True
        ):
            variable.assign(value)
        # Normalization computes with constants that it derives from its weights.
        if hasattr(new_part, "finalize_state") and new_part.weights:
            new_part.finalize_state()


def _with_sublayers(layer):
    return list(layer._flatten_layers(recursive=True, include_self=True))


def _own_variables(layer):
    if KERAS_3:
        return layer._trainable_variables + layer._non_trainable_variables
    own = layer._trainable_weights + layer._non_trainable_weights
    return [one for one in own if hasattr(one, "assign")]  # a vocabulary is there too


def _copy_vocabulary(layer, new):
    tokens = layer.get_vocabulary(include_special_tokens=False)
    if not len(tokens):  # not adapted yet
        return
    lookup = getattr(layer, "_lookup_layer", layer)  # of `TextVectorization`
    if lookup.output_mode == "tf_idf":
        first = len(layer.get_vocabulary()) - len(tokens)
        weights = lookup.idf_weights_const.numpy()[first : first + len(tokens)]
        new.set_vocabulary(tokens, weights)
    else:
        new.set_vocabulary(tokens)


class Copy:
    """One fresh copy of a graph.

    Attributes:
        model: the functional keras.Model.
        layers: {id of original layer: new layer}.
    """

    def __init__(self, graph, name, seed, trace=None, values=None, entries=None):
        """Builds the copy.

        Args:
            graph: `Graph`.
            name: str, name of the model; also tells its draws from other copies'.
            seed: int.
            trace, values: the graph's `Trace` and {Width: size}; without, all sizes
                are the original ones.
            entries: {id of layer: {config key: value}} to change besides.

        Seeds go into the configurations, so that the copy drawn anew from them has
        draws of its own too. Layers made of layers hand one initializer to several
        weights, which a seed would make equal: theirs stay without, and come from
        generators that are seeded while the copy is built.
        """
        self._name, self._seed, self._trace = name, seed, trace
        self._values, self._entries = values, entries or {}
        self._places = places(graph)
        self.layers = {}
        with keras_api.seeded(derived_seed(seed, name)):
            self.model = graph.build(
                self._make_layer, self._make_arguments, name, self._input_shape
            )
        for original in [node.layer for node in graph.nodes]:
            _copy_statistics(original, self.layers[id(original)])

    def _make_layer(self, layer, name):
        layer_id = id(layer)
        changes = {}
        if self._trace is not None:
            changes = self._trace.config.get(layer_id, {})
        changes = {path: sizes_in(v, self._values) for path, v in changes.items()}
        for key, value in self._entries.get(layer_id, {}).items():
            changes[(key,)] = value
        if isinstance(layer, keras.layers.Lambda):
            changes = {path[-1]: value for path, value in changes.items()}
            new = clone_layer(layer, name, **changes)
        else:
            place = (self._seed, self._name, self._places[name])
            config = _with_seeds(config_of(layer), place, _is_composite(layer))
            for path, value in changes.items():
                _put(config, path, value)
            config.pop("name", None)
            new = clone_layer(layer, name, **config)
        self.layers[layer_id] = new
        return new

    def _input_shape(self, tensor):
        if self._trace is None:
            return tensor.shape
        return tuple(axis.size(self._values) for axis in self._trace.axes[tensor])

    def _make_arguments(self, node):
        if self._trace is None or id(node) not in self._trace.arguments:
            return node.args, node.kwargs
        return sizes_in(self._trace.arguments[id(node)], self._values)


def _is_composite(layer):
    inner = getattr(layer, "_flatten_layers", None)
    return inner is not None and len(list(inner(include_self=False))) > 0


def _put(config, path, value):
    for key in path[:-1]:
        config = config[key]
    config[path[-1]] = value


def _with_seeds(config, place, composite, path=()):
    """A copy of the configuration with every seed in it replaced by one of its own."""
    if isinstance(config, keras.layers.Layer):
        return clone_layer(config)
    if isinstance(config, (list, tuple)):
        items = [
            _with_seeds(item, place, composite, (*path, i))
            for i, item in enumerate(config)
        ]
        return tuple(items) if isinstance(config, tuple) else items
    if not isinstance(config, dict):
        return config
    result = {}
    for key, value in config.items():
        if key == "build_config":  # would build an inner layer for the old shape
            continue
        if key == "seed" and (value is None or isinstance(value, int)):
            inner = any(str(step).endswith("initializer") for step in path)
            result[key] = None if composite and inner else derived_seed(*place, *path)
        else:
            result[key] = _with_seeds(value, place, composite, (*path, key))
    return result


def _copy_statistics(original, new):
    """Takes over what a layer was adapted to, which is data and not a draw."""
    is_normalization = isinstance(original, keras.layers.Normalization)
    if hasattr(original, "get_vocabulary") or is_normalization and original.weights:
        copy_state(original, new)
