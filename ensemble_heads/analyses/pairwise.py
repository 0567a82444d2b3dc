"""How often two heads predict different classes."""

import numpy as np

from ensemble_heads.analyses.figures import heat_map, new_figure


def disagreement(predictions):
    """Shares of examples on which two heads predict different classes.

    Args:
        predictions: `HeadPredictions`.

    Returns:
        float64 `[heads, heads]` in [0, 1], symmetric, 0 on the diagonal.
    """
    classes = predictions.head_classes
    return np.stack([predictions.mean(classes != one[:, None]) for one in classes.T])


def mean_disagreement(matrix):
    """float, the mean of a matrix of `disagreement` over pairs; 0 for one head."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    return float(pairs.mean()) if pairs.size else 0.0


def plot_disagreement(matrix, title="Disagreement of pairs of heads"):
    """The matrix as colours; its numbers too, where there is room for them.

    Args:
        matrix: `[heads, heads]`, as `disagreement` returns it.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    figure = new_figure(5.5, 4.5)
    axes = figure.subplots()
    bar = figure.colorbar(heat_map(axes, matrix), ax=axes)
    bar.set_label("share of examples")
    axes.set(title=title, xlabel="head", ylabel="head")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    if len(matrix) <= 10:
        for (row, column), share in np.ndenumerate(matrix):
            color = "black" if share > 0.6 else "white"
            axes.text(
                column, row, f"{share:.2f}", ha="center", va="center", color=color
            )
    return figure
