"""What a base loss l(g, p) is."""

import tensorflow as tf

from ensemble_heads.target_shapes import match_dense


class BaseLoss:
    """l(g, p) of one output.

    Attributes:
        name: str, for messages.
        link: `"softmax"` or `"sigmoid"` if the loss is a cross entropy, else None.
        from_logits: bool, whether it expects raw outputs.
        family: the natural exponential family of which it is the negative
            log-likelihood, up to a factor and what does not depend on the
            prediction: `"categorical"`, `"bernoulli"`, `"gaussian"` or `"poisson"`;
            else None. `exponential_families` has what follows from it.
        by_example: bool, whether an example's loss is known not to depend on the
            others of its batch.
        reduction: `"mean"`, `"sum"` or `"mean_with_sample_weight"` over the batch.
    """

    link = None
    from_logits = False
    family = None
    by_example = True

    def __init__(self, name, reduction):
        self.name = name
        known = ("sum", "mean_with_sample_weight")
        self.reduction = reduction if reduction in known else "mean"

    def __call__(self, target, prediction):
        """The loss of every example (or position), not reduced.

        Args:
            target: tensor, the ground truth g.
            prediction: `Prediction` `[batch, …]`.

        Returns:
            `[batch, …]` without the last axis of the prediction, in nats for cross
            entropies.

        Raises:
            ValueError: target and prediction have shapes that do not fit.
        """
        raise NotImplementedError

    def distillation(self, teacher, student):
        """l(teacher, student) of two `Prediction` objects; arguments as in a call."""
        raise NotImplementedError

    def check_distillation(self, target, prediction):
        """Raises ValueError if no prediction can take the place of such a target."""

    def match(self, target, prediction):
        """The target in the shape this loss works on; ValueError if it has none."""
        return match_dense(self.name, target, prediction)

    def mask(self, target, prediction):
        """Bool tensor of the positions that count, or None for all."""
        return None

    def log_partition_factor(self, target, prediction):
        """What the log partition A(z) of an example is multiplied by, or None for 1.

        Of a `family` alone. A categorical target that does not sum to 1 has its sum.
        """
        mask = self.mask(target, prediction)
        return None if mask is None else tf.cast(mask, prediction.logits.dtype)

    def counted(self, target, prediction):
        """`mask` and the model's own mask of an `EnsemblePrediction`, or None."""
        own, other = self.mask(target, prediction.ensemble), prediction.mask
        if own is None or other is None:
            return other if own is None else own
        return own & other
