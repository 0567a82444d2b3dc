"""Which classes each head takes for which."""

import math

import numpy as np

from ensemble_heads.analyses.figures import (
    heat_map,
    name_classes,
    new_figure,
    require_names,
)
from ensemble_heads.analyses.whole_numbers import whole_numbers

_MOST_LABELS = 12  # of classes, along one panel


def confusion_matrices(predictions):
    """Counts of true against predicted classes, for every head.

    Where examples have weights, sums of these.

    Args:
        predictions: `HeadPredictions`.

    Returns:
        int64 (with weights float64) `[heads, classes, classes]`; rows are true
        classes, columns predicted ones, and each matrix sums to the number of examples.
    """
    classes, weights = predictions.num_classes, predictions.weights
    return np.stack(
        [
            np.bincount(predictions.labels * classes + said, weights, classes**2)
            for said in predictions.head_classes.T
        ]
    ).reshape(-1, classes, classes)


def plot_confusion_matrices(
    matrices, heads=None, title="Confusion matrices", max_columns=4, class_names=None
):
    """A panel for every head: rows are true classes and sum to 1, as in Figure 10.

    Args:
        matrices: `[heads, classes, classes]`, as `confusion_matrices` returns them.
        heads: list of int, the heads to show. Default: the first four, as the paper.
        title: str.
        max_columns: int, panels in a row.
        class_names: list of str. Default: numbers.

    Returns:
        matplotlib `Figure`.

    References:
        Webb et al. 2019, arXiv:1902.04422, Figure 10.
    """
    heads = range(min(4, len(matrices))) if heads is None else heads
    heads = whole_numbers("heads", heads, 0, len(matrices) - 1)
    require_names(class_names, matrices.shape[-1])
    columns = min(max_columns, len(heads))
    rows = math.ceil(len(heads) / columns)
    figure = new_figure(1.5 + 2.6 * columns, 1.0 + 2.4 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(heads) :]:
        axes.set_visible(False)
    for axes, head in zip(panels.flat, heads):
        matrix = matrices[head]
        totals = matrix.sum(axis=1, keepdims=True)
        shares = matrix / np.where(totals > 0, totals, 1)
        image = heat_map(axes, shares)
        axes.set_title(f"head {head}")
        for axis in (axes.xaxis, axes.yaxis):
            name_classes(axis, class_names, _MOST_LABELS)
        if class_names is not None:
            axes.tick_params(labelsize="x-small")
            axes.tick_params(axis="x", labelrotation=90)
    figure.colorbar(image, ax=panels).set_label("share of the true class")
    figure.supxlabel("predicted class")
    figure.supylabel("true class")
    figure.suptitle(title)
    return figure
