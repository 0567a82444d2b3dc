"""The metrics of scored labels as naive loops in NumPy float64: an oracle for tests.

Written from the definitions, not from the library: no sorting, every rank is counted.
"""

import numpy as np


def global_average_precision(y_true, y_pred, top_k=20, weights=None):
    """GAP of `[examples, classes]` arrays; tied scores share one threshold."""
    entries = best_entries(y_true, y_pred, top_k, weights)
    return average_precision(entries, positives(y_true, weights).sum())


def mean_average_precision(y_true, y_pred, top_k=20, weights=None, empty="skip"):
    """MAP of `[examples, classes]` arrays over the same entries."""
    entries = best_entries(y_true, y_pred, top_k, weights)
    counts = positives(y_true, weights)
    values = [
        average_precision([e for e in entries if e[0] == c], count)
        for c, count in enumerate(counts)
        if count > 0 or empty == "zero"
    ]
    return float(np.mean(values)) if values else 0.0


def hit_at_one(y_true, y_pred, weights=None):
    """Share of examples whose first best class is a label."""
    weights = np.ones(len(y_true)) if weights is None else np.float64(weights)
    hits = [y_true[i][ranked(y_pred[i])[0]] for i in range(len(y_true))]
    return float(np.dot(hits, weights) / weights.sum())


def precision_at_equal_recall(y_true, y_pred, weights=None, empty="zero"):
    """PERR; examples without labels count as 0 or are skipped."""
    weights = np.ones(len(y_true)) if weights is None else np.float64(weights)
    values, counted = [], []
    for labels, scores, weight in zip(y_true, y_pred, weights, strict=True):
        wanted = int(np.sum(labels))
        best = ranked(scores)[:wanted]
        if wanted or empty == "zero":
            values.append(sum(labels[c] for c in best) / max(wanted, 1))
            counted.append(weight)
    return float(np.dot(values, counted) / np.sum(counted))


def average_precision(entries, count):
    """Sum over the hits of the precision at their score, over `count`.

    Args:
        entries: list of (class, score, hit, weight).
    """
    total = 0.0
    for _, score, hit, weight in entries:
        if hit:
            above = [(h, w) for _, s, h, w in entries if s >= score]
            seen = sum(w for _, w in above)
            total += weight * sum(w for h, w in above if h) / seen if seen else 0.0
    return total / count if count else 0.0


def best_entries(y_true, y_pred, top_k, weights=None):
    """(class, score, hit, weight) of the best `top_k` classes of each example."""
    weights = np.ones(len(y_true)) if weights is None else np.float64(weights)
    return [
        (c, float(y_pred[i][c]), bool(y_true[i][c]), weights[i])
        for i in range(len(y_true))
        for c in ranked(y_pred[i])[:top_k]
    ]


def ranked(scores):
    """Classes from best to worst, of equal ones the lower first."""
    return sorted(range(len(scores)), key=lambda c: (-float(scores[c]), c))


def positives(y_true, weights=None):
    """Weight of the labels of each class, `[classes]`."""
    weights = np.ones(len(y_true)) if weights is None else np.float64(weights)
    return np.float64(y_true).T @ weights
