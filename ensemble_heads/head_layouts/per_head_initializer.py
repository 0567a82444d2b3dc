"""Draws for stacked variables: of every head what it would have drawn alone."""

import tensorflow as tf

from ensemble_heads.keras_api import keras, register

# How the variables of heads lie in one: stacked on a new first axis, or side by side.
STACKED, ON_CHANNELS, ON_LAST_BUT_ONE = "stacked", "channels", "last_but_one"
_AXES = {ON_CHANNELS: -1, ON_LAST_BUT_ONE: -2}


def join(arrays, form):
    """One array of all heads' arrays, in one of the three forms.

    >>> import numpy as np
    >>> join([np.zeros([2, 3])] * 5, "stacked").shape
    (5, 2, 3)
    >>> join([np.zeros([2, 3])] * 5, "channels").shape
    (2, 15)
    """
    if form == STACKED:
        return tf.stack(arrays).numpy()
    return tf.concat(arrays, _AXES[form]).numpy()


def split(array, num_heads, form):
    """List of the heads' arrays; the inverse of `join`."""
    if form == STACKED:
        return list(array)
    return [part.numpy() for part in tf.split(array, num_heads, _AXES[form])]


@register
class PerHead(keras.initializers.Initializer):
    """Draws the part of every head by itself, at its own size and with its own seed.

    >>> draw = PerHead("glorot_uniform", seeds=[1, 2], form="stacked")
    >>> draw((2, 3, 4)).shape
    TensorShape([2, 3, 4])

    Args:
        initializer: Keras initializer, or what Keras takes for one.
        seeds: list of int or None, one for each head.
        form: `"stacked"`, `"channels"` or `"last_but_one"`: where the heads lie.
    """

    def __init__(self, initializer, seeds, form):
        self.initializer = keras.initializers.get(initializer)
        self.seeds = list(seeds)
        self.form = form

    def __call__(self, shape, dtype=None, **kwargs):
        shape = list(shape)
        if self.form == STACKED:
            shape = shape[1:]
        else:
            shape[_AXES[self.form]] //= len(self.seeds)
        parts = [
            tf.convert_to_tensor(draw(shape, dtype=dtype, **kwargs))
            for draw in map(self._of, self.seeds)
        ]
        if self.form == STACKED:
            return tf.stack(parts)
        return tf.concat(parts, _AXES[self.form])

    def _of(self, seed):
        config = self.initializer.get_config()
        if "seed" not in config:
            return self.initializer
        return type(self.initializer).from_config({**config, "seed": seed})

    def get_config(self):
        return {
            "initializer": keras.initializers.serialize(self.initializer),
            "seeds": self.seeds,
            "form": self.form,
        }
