"""What every layout of heads offers."""

import numbers

import tensorflow as tf

from ensemble_heads import recomputation
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.outputs import Outputs


def check_num_heads(num_heads):
    """Checks a number of heads: a positive integer.

    Raises:
        ValueError: it is not.
    """
    is_count = isinstance(num_heads, numbers.Integral) and not isinstance(
        num_heads, bool
    )
    if not is_count or num_heads < 1:
        raise ValueError(
            "`num_heads` must be an integer of at least 1. "
            f"Received: num_heads={num_heads!r}"
        )


class HeadLayout(keras.layers.Layer):
    """Holds the variables of several heads and runs them on the same features.

    To derive from: give it `heads`, `num_heads`, `stacked_logits`, `mapped`, `select`
    and `get_config`.

    Args:
        parts: list of the functional `keras.Model` that hold the variables, each once.
        head: functional `keras.Model`, one that ends in the raw outputs of a head.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What a head takes: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of the outputs of `head`.

    Attributes:
        parts: list of functional `keras.Model`, as given.
        parents: tuple with, for every part, the position of the part before it that it
            stands on, or None for one that takes the features.
        outputs_like: `Outputs`, names and structure of a head's outputs.
        head_shapes: tuple of the shapes of a head's outputs, the batch first.
        execution: `"separate"`, `"stacked"` or `"tree"`, how the heads are run.
        choice: `measuring.Choice`, where that was chosen for this layout; else None.
        devices: tuple of the names of the heads' devices, or None.
        penalties: list of what the heads add to the loss, where the layout has taken
            care of it; None where Keras' `losses` tell it.
    """

    execution = "separate"
    choice = None
    devices = None
    penalties = None

    def __init__(self, parts, head, **kwargs):
        # Every layer of a head casts for itself, as in the single model.
        super().__init__(**{**kwargs, "autocast": False})
        self.parts = list(parts)
        self.parents = (None,) * len(self.parts)
        self.outputs_like = Outputs(head.output, head.output_names)
        flat = self.outputs_like.flatten(head.output, "outputs")
        self.head_shapes = tuple(tuple(tensor.shape) for tensor in flat)
        self.supports_masking = True
        self.built = True

    @property
    def heads(self):
        """List of functional `keras.Model`, features -> raw outputs."""
        raise NotImplementedError

    def head(self, index):
        """One of `heads`."""
        return self.heads[index]

    def functional_parts(self):
        """List of functional `keras.Model` that show which layers there are."""
        return self.parts

    @property
    def num_heads(self):
        raise NotImplementedError

    def stacked_logits(self, features, training=None):
        """Raw outputs `[batch, heads, …]` and masks `[batch, …]` or None.

        Returns:
            Two flat lists with one entry per output.
        """
        raise NotImplementedError

    def prepare(self, jit_compile):
        """Tells whether the heads will be compiled by XLA; called by `compile`."""

    def mapped(self, function):
        """A layout of the same kind, each of its parts replaced by `function(part)`."""
        raise NotImplementedError

    def select(self, indices):
        """A layout of some of the heads, in this order, that shares all variables."""
        raise NotImplementedError

    def call(self, features, training=None):
        stacks, _ = self.stacked_logits(features, training=training)
        return self.outputs_like.pack(stacks)

    def compute_mask(self, inputs, mask=None):
        return None  # A mask over features need not fit the stacked outputs.

    def __dir__(self):
        # Keras' savers walk `dir()`, and must meet what has weights by one route.
        return [n for n in super().__dir__() if n != "heads"]

    def _trackable_children(self, *args, **kwargs):
        children = super()._trackable_children(*args, **kwargs)
        if KERAS_3:  # TensorFlow's checkpoints do not look into lists of Keras 3
            children |= {f"part_{i}": part for i, part in enumerate(self.parts)}
        return children

    def stack(self, raw):
        """Stacks what the heads said.

        Args:
            raw: list with the structure of raw outputs of each head.

        Returns:
            As `stacked_logits`.
        """
        flat = [self.outputs_like.flatten(outputs, "outputs") for outputs in raw]
        stacks = [tf.stack(tensors, axis=1) for tensors in zip(*flat, strict=True)]
        return stacks, [getattr(tensor, "_keras_mask", None) for tensor in flat[0]]


def run(part, features, training):
    """The outputs of a model, which others are to be run on the same features as.

    Args:
        part: functional `keras.Model`.
        features: what it takes.
        training: bool or None.

    Returns:
        Structure of tensors.
    """
    flat = tf.nest.flatten(features)
    masks = [getattr(tensor, "_keras_mask", None) for tensor in flat]
    outputs = recomputation.run(part, features, training)
    for tensor, mask in zip(flat, masks, strict=True):
        if mask is not None:  # attention in Keras 3 takes it off its inputs
            tensor._keras_mask = mask
    return outputs
