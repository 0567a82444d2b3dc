"""Heads that share nothing but the features they take."""

from ensemble_heads.head_layouts.head_layout import (
    HeadLayout,
    check_num_heads,
    run,
)
from ensemble_heads.keras_api import keras, register


@register
class SeparateHeads(HeadLayout):
    """Heads that are functional models of their own, run one after the other.

    Args:
        heads: list of functional `keras.Model`, features -> raw outputs.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What a head takes: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of a head's outputs.

    Raises:
        ValueError: no heads.
    """

    def __init__(self, heads, **kwargs):
        check_num_heads(len(heads))
        super().__init__(heads, heads[0], **kwargs)

    @property
    def heads(self):
        return list(self.parts)

    @property
    def num_heads(self):
        return len(self.parts)

    def stacked_logits(self, features, training=None):
        return self.stack([run(head, features, training) for head in self.parts])

    def mapped(self, function):
        heads = [function(head) for head in self.parts]
        return SeparateHeads(heads, name=self.name)

    def select(self, indices):
        return SeparateHeads([self.parts[i] for i in indices])

    def get_config(self):
        save = keras.saving.serialize_keras_object
        heads = [save(head) for head in self.parts]
        return {**super().get_config(), "heads": heads}

    @classmethod
    def from_config(cls, config):
        load = keras.saving.deserialize_keras_object
        return cls(**{**config, "heads": [load(head) for head in config["heads"]]})
