"""The loss of every head by itself, and that of the ensemble, at any weights."""

import warnings

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.ensemble_loss import EnsembleLoss, finite_number


@register
class Ensembling(EnsembleLoss):
    """The ensembling loss, equation 2 of EnsembleNet.

    (1 - lambda) sum_i l(g, p_i) + N lambda l(g, p_ens). At lambda = 0 the heads are
    trained for themselves, the conventional ensemble; at 1 only their combination
    is. For identical heads and a simple average the loss does not depend on lambda.
    Where the ensembler has weights, the factor N lambda moves from its loss to the
    gradient that flows from it into the heads (section 3).

    Args:
        ensemble_weight: float, lambda. The paper's best values are negative, about
            -0.5 to -1.5.

    References:
        EnsembleNet, equation 2, section 3 and appendix A.1.
    """

    def __init__(self, ensemble_weight=0.0):
        self.ensemble_weight = finite_number("ensemble_weight", ensemble_weight)
        if self.ensemble_weight > 1:
            warnings.warn(
                "`ensemble_weight` (lambda) above 1 rewards heads that are wrong "
                "apart: by theorem 1 of Webb et al., Joint Training of Neural Network "
                "Ensembles, the loss has no lower bound there, and can fall for ever "
                "while the loss of the ensemble itself grows. "
                f"Received: ensemble_weight={ensemble_weight}",
                stacklevel=2,
            )

    def call(self, base_loss, target, prediction):
        weight = self.ensemble_weight
        factor = 1.0 if prediction.parametric else prediction.num_heads * weight
        terms = []
        # A factor of 0 leaves its term out: 0 times infinity would be NaN.
        if weight != 1.0:
            own = self.head_losses(base_loss, target, prediction)
            terms.append((1.0 - weight) * tf.reduce_sum(own, axis=1))
        if factor:
            terms.append(factor * base_loss(target, prediction.ensemble))
        return sum(terms)

    def ensembler_gradient(self, num_heads):
        return num_heads * self.ensemble_weight

    def get_config(self):
        return {"ensemble_weight": self.ensemble_weight}
