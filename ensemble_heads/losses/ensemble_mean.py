"""The loss of the heads' mean alone: averages optimised directly."""

from ensemble_heads.keras_api import register
from ensemble_heads.losses.ensemble_loss import EnsembleLoss, require_mean


@register
class EnsembleMean(EnsembleLoss):
    """Direct optimisation of the heads' mean, N l(g, p_ens).

    Score-averaged with `"logits"`, probability-averaged with `"probabilities"`. The
    factor N stands for the N-fold learning rate of the paper, by which it makes up
    for the 1 / N of the average's gradient. The paper found both worse than training
    every head for itself, as responsibility for mistakes is shared: of the mean logits
    every head receives the same gradient; of the mean probability it is
    N p_i(y) / sum_j p_j(y) times that of a head alone. It equals `Ensembling(1.0)`,
    and also checks that the model predicts the mean which it trains.

    Args:
        of: `"logits"` or `"probabilities"`, as for `eh.ensemblers.Mean`.

    Raises:
        ValueError: another `of`; in `compile`, a model with another ensembler.

    References:
        Lee et al. 2015, arXiv:1511.06314, section 6.1 and appendix B.
    """

    def __init__(self, of="logits"):
        if of not in ("probabilities", "logits"):
            raise ValueError(
                f'`of` must be "probabilities" or "logits". Received: of={of!r}'
            )
        self.of = of

    def check(self, output):
        require_mean(self, output, self.of)

    def call(self, base_loss, target, prediction):
        return prediction.num_heads * base_loss(target, prediction.ensemble)

    def get_config(self):
        return {"of": self.of}
