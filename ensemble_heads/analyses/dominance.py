"""Module dominance: one head that does the work while the others stay behind."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.accuracy import accuracies
from ensemble_heads.analyses.figures import one_panel


@dataclasses.dataclass(frozen=True, eq=False)
class ModuleDominance:
    """How far the best head is ahead, and how much of the ensemble it decides.

    Attributes:
        head_errors: float64 `[heads]`, shares of examples that a head has wrong.
        ensemble_error: float, the same of the ensemble.
        agreement: float64 `[heads]`, shares of examples on which the ensemble predicts
            what the head predicts.
    """

    head_errors: np.ndarray
    ensemble_error: float
    agreement: np.ndarray

    @property
    def dominant(self):
        """int, the head with the lowest error."""
        return int(np.argmin(self.head_errors))

    @property
    def lead(self):
        """float, the mean error of the other heads minus that of the dominant one."""
        others = np.delete(self.head_errors, self.dominant)
        return float(others.mean() - self.head_errors.min()) if others.size else 0.0


def module_dominance(predictions):
    """The `ModuleDominance` of `HeadPredictions`.

    The paper shows the phenomenon by curves of the errors of all heads, of which one
    lies far below the rest; it names no number. `lead` is our number for that gap.

    References:
        Webb et al. 2019, arXiv:1902.04422, section 4.2, Figures 7 and 9.
    """
    same = predictions.head_classes == predictions.ensemble_classes[:, np.newaxis]
    found = accuracies(predictions)
    return ModuleDominance(
        head_errors=1.0 - found.heads,
        ensemble_error=1.0 - found.ensemble,
        agreement=predictions.mean(same),
    )


def plot_module_dominance(epochs, results, title="Errors of heads and ensemble"):
    """Errors over the course of training, as in Figure 7.

    Args:
        epochs: list of numbers.
        results: list of as many `ModuleDominance`, such as `HeadMonitor.history` has.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure, axes = one_panel(title, "epoch", "error in %")
    errors = 100 * np.stack([result.head_errors for result in results])
    marker = "o" if len(results) == 1 else None
    for i, curve in enumerate(errors.T):
        label = {"label": "heads"} if i == 0 else {}
        axes.plot(epochs, curve, color="C0", alpha=0.5, marker=marker, **label)
    whole = [100 * result.ensemble_error for result in results]
    axes.plot(epochs, whole, color="C3", linewidth=2, marker=marker, label="ensemble")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure
