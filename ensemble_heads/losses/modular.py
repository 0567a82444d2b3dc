"""Between independent and joint training, for targets of an exponential family."""

import tensorflow as tf

from ensemble_heads import exponential_families
from ensemble_heads.keras_api import register
from ensemble_heads.losses.ensemble_loss import (
    EnsembleLoss,
    finite_number,
    require_mean,
)


@register
class Modular(EnsembleLoss):
    """The modular loss, equation 4 of Joint Training of Neural Network Ensembles.

    lambda l(g, q) + (1 - lambda) / N sum_i l(g, q_i), where q has the mean of the
    heads' logits and is the normalised geometric mean of their distributions. At
    lambda = 0 every head is trained for itself, at 1 only the whole. It equals
    1 / N sum_i l(g, q_i) - lambda / N sum_i D(q || q_i), the loss of the heads less
    what they disagree by (equation 6). A mean over heads, unlike the other losses: the
    paper's learning rates grow with N.

    The base loss is the negative log-likelihood of a natural exponential family, on
    its natural parameter:

    * categorical: a categorical cross entropy, on softmax;
    * Bernoulli, for several labels: `"binary_crossentropy"`, on sigmoid;
    * Gaussian: `"mse"`, on a linear output. This is negative correlation learning:
      (f_i - y) - lambda (f_i - f), up to a factor, is a head's gradient;
    * Poisson: `"poisson"`, on an exponential output.

    A regression by negative correlation learning:

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> inputs = keras.Input((4,))
    >>> shared = keras.layers.Dense(8, activation="relu", name="shared")(inputs)
    >>> hidden = keras.layers.Dense(8, activation="relu")(shared)
    >>> single = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    >>> model = eh.multi_head(single, fork_at="shared", num_heads=5)
    >>> model.compile("sgd", "mse", ensemble_loss=eh.losses.Modular(0.5))

    ```

    Args:
        coupling: float <= 1, lambda.

    Raises:
        ValueError: `coupling` is above 1 or not finite; in `compile`, a base loss or
            an output of another kind, or a model that does not predict the mean of
            the logits (`ensembler=eh.ensemblers.Mean("logits")`).

    References:
        Webb et al. 2019, arXiv:1902.04422, equations 4 to 8; Liu & Yao 1999.
    """

    def __init__(self, coupling=0.5):
        self.coupling = finite_number("coupling", coupling)
        if self.coupling > 1:
            raise ValueError(
                "`coupling` (lambda) must be at most 1: above it, by theorem 1 of Webb "
                "et al., Joint Training of Neural Network Ensembles, the loss has no "
                "lower bound and can fall for ever while the loss of the ensemble "
                f"itself grows. Received: coupling={coupling}"
            )

    def check(self, output):
        base = output.base_loss
        if base.family is None:
            raise ValueError(
                f'`loss` must be a cross entropy, "mse" or "poisson" under {self!r}: '
                "the negative log-likelihood of a natural exponential family, for "
                "which the loss is defined. `eh.losses.Ensembling` takes any. "
                f"Received: loss={base.name}"
            )
        link = exponential_families.LINKS[base.family]
        if output.link != link:
            raise ValueError(
                f"Output `{output.name}` must have the {link} activation under "
                f"{self!r} and `loss` {base.name}, so that the mean is one of natural "
                f"parameters. Received: a {output.link} output"
            )
        require_mean(self, output, "logits")

    def call(self, base_loss, target, prediction):
        heads = prediction.heads
        mean, apart = exponential_families.mean_and_ambiguity(
            base_loss.family, heads.logits
        )
        mean = heads.with_logits(mean)
        total = base_loss(target, mean)
        if self.coupling == 1.0:  # 0 times infinity would be NaN.
            return total
        factor = base_loss.log_partition_factor(target, mean)
        if factor is not None:
            apart = tf.math.multiply_no_nan(apart, factor)
        return total + (1.0 - self.coupling) * tf.cast(apart, total.dtype)

    def get_config(self):
        return {"coupling": self.coupling}
