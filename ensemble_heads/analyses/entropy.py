"""How sure the heads are: the entropy of what they predict."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import legend_below, one_panel
from ensemble_heads.analyses.head_predictions import (
    log_odds_parts,
    log_probabilities,
    terms_of_mean,
)
from ensemble_heads.analyses.over_heads import OverHeads


@dataclasses.dataclass(frozen=True, eq=False)
class OutputEntropies(OverHeads):
    """Entropies of predicted distributions, in nats, averaged over the examples.

    Attributes:
        heads: float64 `[heads]`, H[q_i].
        ensemble: float.
    """

    heads: np.ndarray
    ensemble: float

    @property
    def std(self):
        """Standard deviation over the heads, of the heads as the whole population."""
        return float(np.std(self.heads))


def output_entropies(predictions):
    """The `OutputEntropies` of `HeadPredictions`, for one or several labels.

    With several labels an example's entropy is summed over its classes.

    References:
        Webb et al. 2019, arXiv:1902.04422, Table 6: per head, averaged over the test
        set; then its minimum, maximum, mean and deviation over the heads.
    """
    stack = predictions.head_logits
    heads = [_entropy(predictions, stack[:, i]) for i in range(predictions.num_heads)]
    ensemble = _entropy(predictions, predictions.ensemble_logits)
    return OutputEntropies(np.array(heads), ensemble)


def plot_output_entropies(result, title="Entropy of predictions"):
    """A bar for every head, the lowest first; the ensemble as a line.

    Args:
        result: `OutputEntropies`.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure, axes = one_panel(title, "heads, the surest first", "entropy in nats")
    axes.bar(range(len(result.heads)), np.sort(result.heads), label="heads")
    axes.axhline(result.ensemble, color="C2", linestyle="--", label="ensemble")
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(axes)
    return figure


def _entropy(predictions, logits):
    """Mean entropy of the predictions with raw outputs `[examples, classes]`."""
    if predictions.link == "softmax":
        parts = [log_probabilities(logits)]
    else:
        parts = log_odds_parts(logits)
    terms = -sum(terms_of_mean(logs, logs) for logs in parts)
    return float(predictions.mean(np.sum(terms, axis=-1)))
