"""Which head an oracle gives the examples of a class to."""

import numpy as np
import tensorflow as tf

from ensemble_heads.analyses.figures import (
    heat_map,
    name_classes,
    new_figure,
    require_names,
)

_MOST_LABELS = 40  # of classes, one below the other


def class_assignment(predictions):
    """Shares of every class's examples on which a head has the lowest loss.

    Of heads with equal losses the first one wins, as NumPy's `argmin` takes it. Losses
    that are rounded to 0 are not equal yet: what is compared are log odds.

    Args:
        predictions: `HeadPredictions`.

    Returns:
        float64 `[classes, heads]`; a class's shares sum to 1, or are NaN where there
        are no examples of it.

    References:
        Lee et al. 2015, arXiv:1511.06314, Figure 2 (a) to (d).
    """
    predictions.require_one_class("`class_assignment`")
    labels, classes = predictions.labels, predictions.num_classes
    heads = range(predictions.num_heads)
    against = [_log_odds(predictions.head_logits[:, i], labels) for i in heads]
    winners = np.argmin(against, axis=0)
    counts = np.zeros([classes, predictions.num_heads])
    weights = 1 if predictions.weights is None else predictions.weights
    np.add.at(counts, (labels, winners), weights)
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, where=totals > 0, out=np.full_like(counts, np.nan))


def _log_odds(logits, labels):
    """log((1 - p) / p), float64 `[examples]`, p being that of the true class.

    The loss -log p grows with it.
    """
    own = labels[:, np.newaxis]
    logits = logits.astype("float64")
    margins = logits - np.take_along_axis(logits, own, axis=1)
    np.put_along_axis(margins, own, -np.inf, axis=1)
    return tf.reduce_logsumexp(margins, axis=1).numpy()


def plot_class_assignment(shares, class_names=None, title="Heads that win a class"):
    """The shares as colours, a row for every class; of many classes some are named.

    Args:
        shares: `[classes, heads]`, as `class_assignment` returns them.
        class_names: list of str. Default: numbers.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    classes, heads = shares.shape
    require_names(class_names, classes)
    step = -(-classes // _MOST_LABELS)
    figure = new_figure(
        max(4.0, min(12.0, 2 + 0.5 * heads)), max(3.0, 1 + 0.3 * classes / step)
    )
    axes = figure.subplots()
    image = heat_map(axes, shares, highest=np.nanmax(shares))
    name_classes(axes.yaxis, class_names, _MOST_LABELS)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=axes).set_label("share of the class")
    axes.set(title=title, xlabel="head", ylabel="class")
    return figure
