"""Accuracy of an ensemble, of an oracle that picks the right head, and of heads."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.figures import legend_below, one_panel
from ensemble_heads.analyses.over_heads import OverHeads


@dataclasses.dataclass(frozen=True, eq=False)
class Accuracies(OverHeads):
    """Shares in [0, 1] of examples that are classified rightly.

    Attributes:
        ensemble: float, of the model's own ensemble ("Ensemble-Mean Accuracy").
        oracle: float, of examples that at least one head has right.
        heads: float64 `[heads]`, of every head alone.
    """

    ensemble: float
    oracle: float
    heads: np.ndarray


def accuracies(predictions):
    """The `Accuracies` of `HeadPredictions`.

    References:
        Lee et al. 2015, arXiv:1511.06314, section 3.
    """
    right = predictions.head_classes == predictions.labels[:, np.newaxis]
    ensemble = predictions.ensemble_classes == predictions.labels
    return Accuracies(
        ensemble=float(predictions.mean(ensemble)),
        oracle=float(predictions.mean(right.any(axis=1))),
        heads=predictions.mean(right),
    )


def plot_accuracies(result, title="Accuracies"):
    """A bar for every head, lines for ensemble and oracle.

    Args:
        result: `Accuracies`.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure, axes = one_panel(title, "head", "accuracy in %")
    axes.bar(range(len(result.heads)), 100 * result.heads, color="C0", label="heads")
    lines = {"heads' mean": result.mean, "ensemble": result.ensemble}
    for i, (label, value) in enumerate({**lines, "oracle": result.oracle}.items()):
        axes.axhline(
            100 * value, color=f"C{i + 1}", linestyle="--", label=f"{label} {value:.1%}"
        )
    axes.set_ylim(0, 103)  # A line at 100 % is seen whole.
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(axes)
    return figure
