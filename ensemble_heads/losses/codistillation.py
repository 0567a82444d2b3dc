"""Heads that learn from the mean of all heads."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.ensemble_loss import EnsembleLoss, number_at_least


@register
class CoDistillation(EnsembleLoss):
    """The co-distillation loss, equation 3 of EnsembleNet.

    mu sum_i l(p_ens, p_i) + N l(g, p_ens). The heads learn from the ensemble alone;
    no gradient flows into p_ens where it is the teacher. For squared error and a
    simple average it equals `Ensembling(1 - mu)`, in value and in gradient.

    Args:
        distillation_weight: float >= 0, mu. The paper's best values are 2 to 3.

    Raises:
        ValueError: `distillation_weight` < 0 or not finite.

    References:
        EnsembleNet, equation 3, section 3 and appendix A.1.
    """

    def __init__(self, distillation_weight=3.0):
        self.distillation_weight = number_at_least(
            "distillation_weight",
            distillation_weight,
            0,
            "below it, heads would be pushed away from the ensemble",
        )

    def call(self, base_loss, target, prediction):
        total = prediction.num_heads * base_loss(target, prediction.ensemble)
        if self.distillation_weight:
            base_loss.check_distillation(target, prediction.ensemble)
            teacher = prediction.ensemble.stop_gradient()
            apart = self.head_distillations(base_loss, teacher, prediction)
            total += self.distillation_weight * tf.reduce_sum(apart, axis=1)
        return total

    def get_config(self):
        return {"distillation_weight": self.distillation_weight}
