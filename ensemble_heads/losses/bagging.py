"""Bagging: every head learns from its own bootstrap sample of the examples."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.loss_of_heads import LossOfHeads
from ensemble_heads.losses.random_numbers import (
    bootstrap_weights,
    check_seed,
    fingerprints,
)


@register
class Bagging(LossOfHeads):
    """sum_i w_i l(g, p_i), with w_i how often an example is in the sample of head i.

    The weights are Poisson(1) numbers that follow from the seed, the head and the
    example alone: no data are copied, and an example keeps its weights in every epoch,
    whatever its batch or device. An example is known by its inputs, bit by bit. Where
    augmentation changes these, or padding to the longest example of a batch, give the
    examples numbers and name their key.

    In evaluation all weights are 1.

    Args:
        seed: int in [0, 2^31).
        id_key: str, the key of a dict of inputs that holds an integer or a string for
            every example, `[batch]`. The model need not have an input of that name.
            Default: the inputs themselves tell.

    Raises:
        ValueError: `seed` out of its range; in training, inputs without `id_key`.

    References:
        Breiman 1996; Oza & Russell 2001; Lee et al. 2015, arXiv:1511.06314, section 4.
    """

    def __init__(self, seed=0, id_key=None):
        self.seed, self.id_key = check_seed(seed), id_key

    def observe(self, inputs, outputs, training):
        if not training:
            return None
        if self.id_key is not None:
            keys = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            if self.id_key not in keys or isinstance(keys, str):
                raise ValueError(
                    "`id_key` must be a key of the inputs, which must be a dict. "
                    f"Received: id_key={self.id_key!r} and inputs {keys}"
                )
            inputs = inputs[self.id_key]
        return [fingerprints(inputs)] * len(outputs)

    def of_heads(self, base_loss, target, prediction):
        losses = self.head_losses(base_loss, target, prediction)
        if prediction.observed is None:
            return tf.reduce_sum(losses, axis=1)
        weights = bootstrap_weights(
            prediction.observed, prediction.num_heads, self.seed
        )
        weights = tf.cast(weights, losses.dtype)
        for _ in range(losses.shape.rank - 2):
            weights = weights[..., tf.newaxis]
        # An example that a head does not see leaves no NaN in it either.
        return tf.reduce_sum(tf.where(weights > 0, weights * losses, 0.0), axis=1)

    def get_config(self):
        return {"seed": self.seed, "id_key": self.id_key}
