"""Whether predictions come true as often as their probabilities say."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import legend_below, one_panel
from ensemble_heads.analyses.whole_numbers import whole_numbers
from ensemble_heads.losses.ensemble_loss import integer_at_least


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Examples in bins of equal width by the probability of the predicted class.

    Attributes:
        error: float, the expected calibration error: the mean of |accuracy -
            confidence| over the bins by their numbers of examples.
        edges: float64 `[bins + 1]`; a bin holds its upper edge.
        counts: int64 `[bins]`; where examples have weights, their float64 sums.
        confidences: float64 `[bins]`, means; NaN where a bin is empty.
        accuracies: float64 `[bins]`, shares; NaN where a bin is empty.
    """

    error: float
    edges: np.ndarray
    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray


def calibration(predictions, head=None, bins=15):
    """The `Calibration` of the ensemble or of one head.

    Args:
        predictions: `HeadPredictions`.
        head: int, index of a head; negative ones count from the end. Default: the
            ensemble.
        bins: int >= 1, bins from 0 to 1; the reference takes 15.

    References:
        Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    predictions.require_one_class("`calibration`")
    bins = integer_at_least("bins", bins, 1)
    if head is None:
        said = predictions.ensemble_probabilities
    else:
        heads = predictions.num_heads
        (head,) = whole_numbers("head", head, -heads, heads - 1)
        said = predictions.head_probabilities[:, head]
    confidence = said.max(axis=-1).astype("float64")
    right = said.argmax(axis=-1) == predictions.labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    # Rounding may put a probability a little above 1.
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    weights = predictions.weights
    counts = np.bincount(place, weights, minlength=bins)

    def means(values):
        weighted = values if weights is None else values * weights
        sums = np.bincount(place, weighted, minlength=bins)
        empty = np.full(bins, np.nan)
        return np.divide(sums, counts, where=counts > 0, out=empty)

    confidences, found = means(confidence), means(right.astype("float64"))
    gaps = np.nan_to_num(np.abs(found - confidences))
    error = float(np.sum(gaps * counts) / np.sum(counts))
    return Calibration(error, edges, counts, confidences, found)


def plot_calibration(result, title="Calibration"):
    """A reliability diagram: accuracy against confidence, bin by bin.

    Args:
        result: `Calibration`.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    title = f"{title}: expected error {result.error:.3f}"
    figure, axes = one_panel(title, "confidence", "accuracy", 5.0, 4.5)
    axes.bar(
        result.edges[:-1],
        np.nan_to_num(result.accuracies),
        width=np.diff(result.edges),
        align="edge",
        edgecolor="white",
    )
    axes.plot(result.confidences, result.accuracies, "o", color="C1", label="bins")
    axes.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    legend_below(axes)
    return figure
