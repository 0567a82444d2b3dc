"""Deep mutual learning: every head learns from every other one."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.divergence import (
    check_temperature,
    divergences,
    require_cross_entropy,
)
from ensemble_heads.losses.ensemble_loss import number_at_least
from ensemble_heads.losses.loss_of_heads import LossOfHeads


@register
class MutualLearning(LossOfHeads):
    """The loss of deep mutual learning.

    sum_i [l(g, p_i) + w / (N - 1) sum_{j != i} T^2 KL(p_j || p_i)], with no gradient
    into p_j. The paper updates its networks in turn; here all heads move at once.

    Args:
        weight: float >= 0, w.
        temperature: float > 0, T; the paper has 1.

    Raises:
        ValueError: an argument out of its range; in `compile`, a single head or a base
            loss that is no cross entropy.

    References:
        Zhang et al. 2017, arXiv:1706.00384.
    """

    def __init__(self, weight=1.0, temperature=1.0):
        self.weight = number_at_least(
            "weight", weight, 0, "below it, heads would be pushed apart"
        )
        self.temperature = check_temperature(temperature)

    def check(self, output):
        require_cross_entropy(self, output)
        if output.num_heads < 2:
            raise ValueError(
                f"`num_heads` must be at least 2 under {self!r}, whose heads learn "
                "from each other. Received: num_heads=1"
            )

    def of_heads(self, base_loss, target, prediction):
        own = self.head_losses(base_loss, target, prediction)
        heads = prediction.heads.heads()
        # Of a head from itself it is 0, without a gradient.
        pairs = sum(
            tf.reduce_sum(
                divergences(base_loss, teacher, prediction.heads, self.temperature), 1
            )
            for teacher in heads
        )
        return tf.reduce_sum(own, axis=1) + self.weight / (len(heads) - 1) * pairs

    def get_config(self):
        return {"weight": self.weight, "temperature": self.temperature}
