"""Heads that share more than the trunk: they branch off one another (TreeNets)."""

import tensorflow as tf

from ensemble_heads import model_inputs
from ensemble_heads.head_layouts.head_layout import HeadLayout, run
from ensemble_heads.keras_api import keras, register


@register
class HeadTree(HeadLayout):
    """Heads that branch off one another; what they share is held and run once.

    A head is the way from the features through parts that stand on one another to a
    part that ends in raw outputs (Lee et al. 2015, arXiv:1511.06314, section 5).

    Args:
        parts: list of functional `keras.Model`, each after the one it stands on.
        parents: list with, for every part, the position in `parts` of the one it
            stands on, or None for one that takes the features.
        leaves: list of the positions of the parts that end in raw outputs, one per
            head, in the order of the heads. Default: the parts that nothing stands
            on, in their order.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What the first parts take: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of a leaf's outputs.

    Raises:
        ValueError: a part that stands on none before it, or leaves that are not the
            parts that nothing stands on.
    """

    execution = "tree"

    def __init__(self, parts, parents, leaves=None, **kwargs):
        known = [None, *range(len(parts))]
        bad = [p for i, p in enumerate(parents) if p not in known[: i + 1]]
        if bad or len(parents) != len(parts) or None not in parents:
            raise ValueError(
                "`parents` must give for each of the parts None or the position of one "
                f"before it. Received: {len(parts)} parts and parents={parents!r}"
            )
        ends = [i for i in range(len(parts)) if i not in parents]
        leaves = ends if leaves is None else list(leaves)
        if sorted(leaves) != ends:
            raise ValueError(
                "`leaves` must be the positions of the parts that nothing stands on, "
                f"{ends}, in any order. Received: leaves={leaves!r}"
            )
        super().__init__(parts, parts[leaves[0]], **kwargs)
        self.parents, self.leaves = tuple(parents), tuple(leaves)
        self._cache = _Cache()

    @property
    def heads(self):
        if not self._cache.heads:
            self._cache.heads = [self._make_head(i) for i in range(self.num_heads)]
        return list(self._cache.heads)

    @property
    def num_heads(self):
        return len(self.leaves)

    def stacked_logits(self, features, training=None):
        made = {None: features}
        for i, (part, parent) in enumerate(zip(self.parts, self.parents, strict=True)):
            made[i] = run(part, made[parent], training)
        return self.stack([made[leaf] for leaf in self.leaves])

    def mapped(self, function):
        parts = [function(part) for part in self.parts]
        return HeadTree(parts, self.parents, self.leaves, name=self.name)

    def select(self, indices):
        leaves = [self.leaves[i] for i in indices]
        kept = sorted({i for leaf in leaves for i in self._way_to(leaf)})
        new = {None: None, **{old: i for i, old in enumerate(kept)}}
        return HeadTree(
            [self.parts[i] for i in kept],
            [new[self.parents[i]] for i in kept],
            [new[leaf] for leaf in leaves],
        )

    def get_config(self):
        save = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "parts": [save(part) for part in self.parts],
            "parents": list(self.parents),
            "leaves": list(self.leaves),
        }

    @classmethod
    def from_config(cls, config):
        load = keras.saving.deserialize_keras_object
        return cls(**{**config, "parts": [load(part) for part in config["parts"]]})

    def _way_to(self, leaf):
        """Positions of the parts from the features to a leaf."""
        way = []
        while leaf is not None:
            way.insert(0, leaf)
            leaf = self.parents[leaf]
        return way

    def _make_head(self, index):
        way = [self.parts[i] for i in self._way_to(self.leaves[index])]
        inputs = tf.nest.map_structure(model_inputs.input_like, way[0].input)
        outputs = inputs
        for part in way:
            outputs = part(outputs)
        return keras.Model(inputs, outputs, name=f"head_{index}")


class _Cache:
    """The models of the heads, made when asked for, out of sight of Keras' tracking."""

    def __init__(self):
        self.heads = []
