"""By how much the ensemble's loss is below that of its heads, and why."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import legend_below, one_panel
from ensemble_heads.analyses.head_predictions import (
    log_odds_parts,
    log_probabilities,
    terms_of_mean,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Ambiguity:
    """The ambiguity decomposition of an ensemble's loss; all in nats per example.

    Losses are cross entropies: of several labels per example, binary ones summed over
    the classes.

    Attributes:
        head_losses: float64 `[heads]`.
        ensemble_loss: float.
        ambiguity: float, the heads' mean loss minus that of the ensemble.
        divergence: float, mean over heads and examples of KL(ensemble || head). It
            equals `ambiguity` where the ensemble is the mean of the logits, whatever
            the labels are (equation 6).
    """

    head_losses: np.ndarray
    ensemble_loss: float
    ambiguity: float
    divergence: float

    @property
    def mean_head_loss(self):
        return float(np.mean(self.head_losses))


def ambiguity(predictions):
    """The `Ambiguity` of `HeadPredictions`.

    References:
        Webb et al. 2019, arXiv:1902.04422, equation 6 at lambda = 1; Krogh & Vedelsby
        1994.
    """
    losses, divergences = [], []
    for head in range(predictions.num_heads):
        logits = predictions.head_logits[:, head]
        losses.append(mean_loss(predictions, logits))
        divergences.append(_divergence(predictions, logits))
    ensemble = mean_loss(predictions, predictions.ensemble_logits)
    return Ambiguity(
        head_losses=np.array(losses),
        ensemble_loss=ensemble,
        ambiguity=float(np.mean(losses) - ensemble),
        divergence=float(np.mean(divergences)),
    )


def plot_ambiguity(result, title="Losses of the heads and of their ensemble"):
    """The heads' losses as bars; their mean and the ensemble's loss as lines.

    Args:
        result: `Ambiguity`.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure, axes = one_panel(title, "head", "cross entropy in nats")
    axes.bar(range(len(result.head_losses)), result.head_losses, label="heads")
    mean, whole = result.mean_head_loss, result.ensemble_loss
    axes.axhline(mean, color="C1", linestyle="--", label=f"heads' mean {mean:.3f}")
    axes.axhline(whole, color="C2", linestyle="--", label=f"ensemble {whole:.3f}")
    axes.axhspan(
        whole, mean, color="grey", alpha=0.2, label=f"ambiguity {result.ambiguity:.3f}"
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(axes)
    return figure


def mean_loss(predictions, logits):
    """Mean cross entropy in nats of raw outputs `[examples, classes]`."""
    labels = predictions.labels
    if predictions.link == "softmax":
        logs = log_probabilities(logits)
        return -float(predictions.mean(logs[np.arange(len(labels)), labels]))
    yes, no = log_odds_parts(logits)
    return -float(predictions.mean(np.sum(np.where(labels, yes, no), axis=-1)))


def _divergence(predictions, logits):
    """Mean KL(ensemble || head) over the examples."""
    ensemble_logits = predictions.ensemble_logits
    if predictions.link == "softmax":
        pairs = [(log_probabilities(ensemble_logits), log_probabilities(logits))]
    else:
        pairs = zip(log_odds_parts(ensemble_logits), log_odds_parts(logits))
    with np.errstate(invalid="ignore"):  # of what both rule out
        terms = sum(terms_of_mean(whole, whole - one) for whole, one in pairs)
    return float(predictions.mean(np.sum(terms, axis=-1)))
