"""ONE: heads that learn from a gated ensemble of themselves while it is trained."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.divergence import (
    check_temperature,
    divergences,
    require_cross_entropy,
)
from ensemble_heads.losses.ensemble_loss import (
    EnsembleLoss,
    integer_at_least,
    number_at_least,
)


@register
class OnTheFly(EnsembleLoss):
    """The loss of knowledge distillation by an on-the-fly native ensemble (ONE).

    sum_i l(g, p_i) + l(g, p_ens) + T^2 sum_i KL(p_ens || p_i), equation 6, where the
    KL divergence is between predictions at temperature T and no gradient flows into
    its teacher p_ens. The paper's teacher is `eh.ensemblers.Gated()`; with
    `Mean("logits")` it is the paper's ablation without the gate.

    Trained, `model.head(i)` is the single network to deploy (ONE), and the whole model
    the ensemble (ONE-E).

    Args:
        temperature: float > 0, T.
        distillation_weight: float >= 0, further factor on the last term; 0 is the
            paper's ablation without distillation.
        ramp_up_steps: int, over so many steps of the optimizer the last term grows by
            exp(-5 (1 - t / ramp_up_steps)^2), as in the authors' code over 80 epochs.
            Default: not at all, as in the paper.

    Raises:
        ValueError: an argument out of its range; in `compile`, a base loss that is no
            cross entropy.

    References:
        Lan, Zhu & Gong 2018, arXiv:1806.04606.
    """

    def __init__(self, temperature=3.0, distillation_weight=1.0, ramp_up_steps=None):
        self.temperature = check_temperature(temperature)
        self.distillation_weight = number_at_least(
            "distillation_weight",
            distillation_weight,
            0,
            "below it, heads would be pushed away from the ensemble",
        )
        if ramp_up_steps is not None:
            ramp_up_steps = integer_at_least("ramp_up_steps", ramp_up_steps, 1)
        self.ramp_up_steps = ramp_up_steps

    def check(self, output):
        require_cross_entropy(self, output)

    def call(self, base_loss, target, prediction):
        own = self.head_losses(base_loss, target, prediction)
        total = tf.reduce_sum(own, axis=1) + base_loss(target, prediction.ensemble)
        if self.distillation_weight:
            apart = divergences(
                base_loss, prediction.ensemble, prediction.heads, self.temperature
            )
            apart = tf.reduce_sum(apart, axis=1)
            total += tf.cast(self._weight(prediction.step), apart.dtype) * apart
        return total

    def get_config(self):
        return {
            "temperature": self.temperature,
            "distillation_weight": self.distillation_weight,
            "ramp_up_steps": self.ramp_up_steps,
        }

    def _weight(self, step):
        if self.ramp_up_steps is None or step is None:
            return self.distillation_weight
        share = tf.minimum(tf.cast(step, tf.float32) / self.ramp_up_steps, 1.0)
        return self.distillation_weight * tf.exp(-5.0 * tf.square(1.0 - share))
