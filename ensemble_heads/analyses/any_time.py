"""Any-time evaluation: what the first heads reach for the FLOPs spent so far."""

import dataclasses

import numpy as np

from ensemble_heads import profiling
from ensemble_heads.analyses.figures import by_label, label_curves, one_panel
from ensemble_heads.analyses.whole_numbers import whole_numbers
from ensemble_heads.multi_head_model import MultiHeadModel

# Costs that differ by more are drawn by their logarithms: labels lie apart.
_WIDE = 20


@dataclasses.dataclass(frozen=True, eq=False)
class AnyTime:
    """Accuracy and cost of the trunk with the first heads.

    Attributes:
        heads: int64 `[sizes]`, how many heads have been run.
        flops: int64 `[sizes]`, FLOPs per example of trunk, heads and ensembler.
        parameters: int64 `[sizes]`, of the same; batch norms folded.
        accuracies: float64 `[sizes]`, shares in [0, 1].
    """

    heads: np.ndarray
    flops: np.ndarray
    parameters: np.ndarray
    accuracies: np.ndarray


def evaluate_any_time(model, predictions, sizes=None, order=None, input_shape=None):
    """Accuracy of the first k heads against the FLOPs of trunk and k heads.

    Args:
        model: `eh.MultiHeadModel`.
        predictions: what `collect` gave of it; its ensembler has no weights.
        sizes: list of int, the k to look at. Default: 1, 2, 4, … and all heads.
        order: list of the indices of all heads, such as `eh.greedy_heads` begins.
            Default: as they are.
        input_shape: as `eh.profile` takes it.

    Returns:
        `AnyTime`.

    Raises:
        ValueError: sizes or an order that the model does not have, a model without
            heads, or an ensembler with weights.
    """
    if not isinstance(model, MultiHeadModel):
        raise ValueError(
            "`model` must be an eh.MultiHeadModel, of which heads can be left out. "
            f"Received: model of class {type(model).__name__}"
        )
    count = model.num_heads
    order = list(range(count)) if order is None else list(order)
    if count != predictions.num_heads or sorted(order) != list(range(count)):
        raise ValueError(
            f"`order` must name each of the model's {count} heads once, and "
            "`predictions` be of this model. "
            f"Received: order={order}, predictions of {predictions.num_heads} heads"
        )
    if sizes is None:
        powers = [2**i for i in range(count.bit_length())]
        sizes = sorted({*powers, count})
    sizes = whole_numbers("sizes", sizes, 1, count)
    predictions.require_free_ensembler()
    rows = []
    for size in sizes:
        some = order[:size]
        cost = profiling.profile(model.select_heads(some), input_shape=input_shape)
        right = predictions.classes_of([some])[0] == predictions.labels
        rows.append((size, cost.flops, cost.parameters, predictions.mean(right)))
    heads, flops, parameters, found = map(np.array, zip(*rows))
    return AnyTime(heads, flops, parameters, found)


def plot_any_time(results, title="Accuracy against FLOPs"):
    """Accuracy against FLOPs, a point for each number of heads.

    Args:
        results: `AnyTime`, or a dict of them by label.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    curves = by_label(results)
    figure, axes = one_panel(title, "FLOPs per example", "accuracy in %")
    for label, result in curves.items():
        percent = 100 * result.accuracies
        axes.plot(result.flops, percent, marker="o", label=label)
        for heads, *place in zip(result.heads, result.flops, percent):
            axes.annotate(
                str(heads), place, xytext=(4, 4), textcoords="offset points", fontsize=8
            )
    flops = [number for result in curves.values() for number in result.flops]
    if max(flops) > _WIDE * min(flops):
        axes.set_xscale("log")
    axes.margins(x=0.1)
    label_curves(axes, curves)
    return figure
