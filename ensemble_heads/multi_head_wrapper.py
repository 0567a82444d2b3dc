"""The layer behind every multi-headed model: the upper network, several times."""

import dataclasses

import tensorflow as tf

from ensemble_heads.head_cloning import check_num_heads, clone_heads
from ensemble_heads.keras_api import KERAS_3, keras, register
from ensemble_heads.outputs import Outputs
from ensemble_heads.predictions import Prediction


@dataclasses.dataclass
class _Made:
    """Heads that exist already, in place of an upper network to clone."""

    heads: list
    links: object


@register
class MultiHeadWrapper(keras.layers.Layer):
    """Several narrower copies of an upper network on the same features.

    Usable in any functional model: `MultiHeadWrapper(upper, num_heads=2)(features)`.

    Args:
        upper: functional `keras.Model` from features to predictions. It is a
            template: never changed, and no weights are shared with it.
        num_heads: int >= 1.
        width_multiplier: float in (0, 4] or callable `layer -> float`; the widths of
            the heads relative to `upper`.
        overrides: {layer name: {config key: value}}, changes of single layers.
        divisor: int, widths are rounded to its multiples. Default 1.
        seed: int; the same seed draws the same heads. Default: a new draw each time.
        copy_weights: bool, start from the weights of `upper` instead of a draw.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What `upper` takes: one tensor, or a list or dict of tensors.

    Output shape:
        `[batch, heads, …]` in the form of the output of `upper` (probabilities stay
        probabilities), in float32 or wider; a list or dict of such tensors when
        `upper` has several outputs.

    Raises:
        ValueError: `num_heads` < 1, `upper` is no functional model, or one of the
            reasons for which widths cannot be changed (see `eh.multi_head`).
    """

    def __init__(
        self,
        upper,
        num_heads=2,
        width_multiplier=1.0,
        overrides=None,
        divisor=None,
        seed=None,
        copy_weights=False,
        **kwargs,
    ):
        # Every layer of a head casts for itself, as in the single model.
        super().__init__(**{**kwargs, "autocast": False})
        if not isinstance(upper, _Made):
            upper = _Made(
                *clone_heads(
                    upper,
                    num_heads,
                    width_multiplier,
                    overrides=overrides,
                    divisor=divisor,
                    seed=seed,
                    copy_weights=copy_weights,
                )
            )
        self.heads = list(upper.heads)
        self.outputs_like = Outputs(self.heads[0].output, self.heads[0].output_names)
        self.flat_links = tuple(self.outputs_like.flatten(upper.links, "links"))
        self.supports_masking = True
        self.built = True

    @classmethod
    def from_heads(cls, heads, links, **kwargs):
        """A wrapper around heads that exist already, sharing their weights.

        Args:
            heads: list of functional `keras.Model`, features -> raw outputs.
            links: structure of the outputs, of `"softmax"`, `"sigmoid"`,
                `"exponential"` or `"linear"`.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            ValueError: no heads.
        """
        check_num_heads(len(heads))
        return cls(_Made(list(heads), links), **kwargs)

    @property
    def num_heads(self):
        return len(self.heads)

    @property
    def links(self):
        """What was taken off every output, such as "softmax", or "linear"."""
        return self.outputs_like.pack(list(self.flat_links))

    def call(self, features, training=None):
        stacks, _ = self.stacked_logits(features, training=training)
        return self.outputs_like.pack(
            [
                Prediction(stack, link).values
                for stack, link in zip(stacks, self.flat_links, strict=True)
            ]
        )

    def logits(self, features, training=None):
        """The raw outputs `[batch, heads, …]`, in the structure of the outputs."""
        return self.outputs_like.pack(self.stacked_logits(features, training)[0])

    def stacked_logits(self, features, training=None):
        """Raw outputs `[batch, heads, …]` and masks `[batch, …]` or None.

        Returns:
            Two flat lists with one entry per output.
        """
        raw = []
        flat = tf.nest.flatten(features)
        masked = [getattr(tensor, "_keras_mask", None) for tensor in flat]
        for head in self.heads:
            raw.append(self._flat(head(features, training=training)))
            for tensor, mask in zip(flat, masked, strict=True):
                if mask is not None:  # attention in Keras 3 takes it off its inputs
                    tensor._keras_mask = mask
        stacks = [tf.stack(tensors, axis=1) for tensors in zip(*raw, strict=True)]
        masks = [getattr(tensor, "_keras_mask", None) for tensor in raw[0]]
        return stacks, masks

    def compute_mask(self, inputs, mask=None):
        return None  # A mask over features need not fit the stacked outputs.

    def get_config(self):
        """Holds the heads themselves, so that loading traces no widths again."""
        save = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "heads": [save(head) for head in self.heads],
            "links": self.links,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        load = keras.saving.deserialize_keras_object
        heads = [load(head) for head in config.pop("heads")]
        return cls.from_heads(heads, config.pop("links"), **config)

    def _trackable_children(self, *args, **kwargs):
        children = super()._trackable_children(*args, **kwargs)
        if KERAS_3:  # TensorFlow's checkpoints do not look into lists of Keras 3
            children |= {f"head_{i}": head for i, head in enumerate(self.heads)}
        return children

    def _flat(self, outputs):
        return self.outputs_like.flatten(outputs, "outputs")
