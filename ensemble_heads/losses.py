"""Losses of an ensemble, over any base loss l(g, p).

With N heads, predictions p_i and p_ens, and the ground truth g, the total loss is
the sum of an auxiliary loss per head and a loss of the ensemble (EnsembleNet,
equation 1). The objects here are given to `compile(ensemble_loss=…)`; the base loss
is given as `loss`. Sums run over heads: they are not means.
"""

import math
import warnings

from ensemble_heads.base_losses import SparseCategoricalCrossentropy
from ensemble_heads.keras_api import register

__all__ = [
    "CoDistillation",
    "EnsembleLoss",
    "Ensembling",
    "SparseCategoricalCrossentropy",
]


class EnsembleLoss:
    """Base of losses of an ensemble; subclasses implement `call`."""

    def __call__(self, base_loss, target, prediction):
        """The loss of every example, not reduced.

        Args:
            base_loss: `BaseLoss`, l.
            target: tensor, the ground truth g.
            prediction: `EnsemblePrediction` of one output.

        Returns:
            `[batch, …]` without the last axis of the predictions. Not reduced: the
            caller weights the examples and divides by the *global* batch size.
        """
        return self.call(base_loss, target, prediction)

    def call(self, base_loss, target, prediction):
        raise NotImplementedError

    def ensembler_gradient(self, num_heads):
        """Factor on the gradient from a parametric ensembler into the heads, or None.

        Args:
            num_heads: int, N.
        """
        return None

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{k}={v}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


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
        self.ensemble_weight = _number("ensemble_weight", ensemble_weight)
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
        weight, heads = self.ensemble_weight, prediction.heads.heads()
        factor = 1.0 if prediction.parametric else len(heads) * weight
        terms = []
        # A factor of 0 leaves its term out: 0 times infinity would be NaN.
        if weight != 1.0:
            auxiliary = sum(base_loss(target, head) for head in heads)
            terms.append((1.0 - weight) * auxiliary)
        if factor:
            terms.append(factor * base_loss(target, prediction.ensemble))
        return sum(terms)

    def ensembler_gradient(self, num_heads):
        return num_heads * self.ensemble_weight

    def get_config(self):
        return {"ensemble_weight": self.ensemble_weight}


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
        self.distillation_weight = _number("distillation_weight", distillation_weight)
        if self.distillation_weight < 0:
            raise ValueError(
                "`distillation_weight` must be at least 0: below it, heads would be "
                "pushed away from the ensemble. "
                f"Received: distillation_weight={distillation_weight}"
            )

    def call(self, base_loss, target, prediction):
        total = prediction.num_heads * base_loss(target, prediction.ensemble)
        if self.distillation_weight:
            base_loss.check_distillation(target, prediction.ensemble)
            teacher = prediction.ensemble.stop_gradient()
            total += self.distillation_weight * sum(
                base_loss.distillation(teacher, student)
                for student in prediction.heads.heads()
            )
        return total

    def get_config(self):
        return {"distillation_weight": self.distillation_weight}


def get(identifier):
    """An ensemble loss from an object, or the default for None.

    Raises:
        ValueError: anything else.
    """
    if identifier is None:
        return Ensembling(0.0)
    if isinstance(identifier, EnsembleLoss):
        return identifier
    raise ValueError(
        "`ensemble_loss` must be an object of `eh.losses`, such as "
        "`eh.losses.CoDistillation(3.0)`; the base loss l(g, p) is given as `loss`. "
        f"Received: ensemble_loss={identifier!r}"
    )


def _number(name, value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}"
        )
    return number
