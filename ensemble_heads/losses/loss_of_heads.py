"""What losses share that look at the heads alone."""

from ensemble_heads.losses.ensemble_loss import EnsembleLoss


class LossOfHeads(EnsembleLoss):
    """Base of losses that do not look at the ensemble; subclasses define `of_heads`.

    An ensembler with weights would stay as it was drawn. So its own l(g, p_ens) is
    added where there is one, and trains nothing but its weights: no gradient flows
    from it into heads and trunk, as under `Ensembling(0.0)`.
    """

    def of_heads(self, base_loss, target, prediction):
        """The loss of every example; arguments and result as those of a call."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must implement "
            "`of_heads(base_loss, target, prediction)`."
        )

    def call(self, base_loss, target, prediction):
        total = self.of_heads(base_loss, target, prediction)
        if prediction.parametric:
            total += base_loss(target, prediction.ensemble)
        return total

    def ensembler_gradient(self, num_heads):
        return 0.0
