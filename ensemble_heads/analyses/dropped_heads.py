"""Accuracy of an ensemble of which some heads, drawn at random, are missing."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import by_label, label_curves, one_panel
from ensemble_heads.analyses.whole_numbers import whole_numbers
from ensemble_heads.losses.ensemble_loss import integer_at_least


@dataclasses.dataclass(frozen=True, eq=False)
class DroppedHeads:
    """Accuracies of what is left of an ensemble.

    Attributes:
        dropped: int64 `[sizes]`, how many heads are missing.
        accuracies: float64 `[sizes, draws]`, shares in [0, 1].
    """

    dropped: np.ndarray
    accuracies: np.ndarray

    @property
    def mean(self):
        """float64 `[sizes]`, over the draws."""
        return self.accuracies.mean(axis=1)

    @property
    def std(self):
        """float64 `[sizes]`, standard deviation over the draws."""
        return self.accuracies.std(axis=1)


def drop_heads(predictions, dropped=None, draws=20, seed=0):
    """Accuracy as heads are dropped at random.

    Args:
        predictions: `HeadPredictions` of an ensembler without weights.
        dropped: list of int, how many heads to leave out. Default: 0 to all but one,
            in at most 21 steps.
        draws: int, random choices for each number; the paper takes 20.
        seed: int; the same seed draws the same heads.

    Returns:
        `DroppedHeads`.

    Raises:
        ValueError: a number that leaves no head, `draws` below 1, or an ensembler
            with weights.

    References:
        Webb et al. 2019, arXiv:1902.04422, Figure 4.
    """
    heads = predictions.num_heads
    if dropped is None:
        dropped = np.unique(np.linspace(0, heads - 1, min(heads, 21)).astype("int64"))
    dropped = np.array(whole_numbers("dropped", dropped, 0, heads - 1))  # One is left.
    draws = integer_at_least("draws", draws, 1)
    generator = np.random.default_rng(seed)
    kept = [
        np.sort(generator.permutation(heads)[number:])
        for number in dropped
        for _ in range(draws)
    ]
    right = predictions.classes_of(kept) == predictions.labels
    return DroppedHeads(dropped, predictions.mean(right.T).reshape(-1, draws))


def plot_dropped_heads(results, title="Accuracy as heads are dropped at random"):
    """Mean accuracy against the number of heads dropped, with a band of one deviation.

    Args:
        results: `DroppedHeads`, or a dict of them by label.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    curves = by_label(results)
    figure, axes = one_panel(title, "heads dropped", "accuracy in %")
    for label, result in curves.items():
        mean, std = 100 * result.mean, 100 * result.std
        (line,) = axes.plot(result.dropped, mean, marker="o", label=label)
        band = mean - std, mean + std
        axes.fill_between(result.dropped, *band, color=line.get_color(), alpha=0.2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    label_curves(axes, curves)
    return figure
