"""GAP, the global average precision of YouTube-8M."""

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.pooled_precision import PooledPrecision


@register
class GlobalAveragePrecision(PooledPrecision):
    """Average precision of the best predictions of all examples in one ranking.

    The `top_k` predictions of each example are pooled and sorted by confidence. GAP is
    the sum, over the hits, of the precision at their rank, divided by the number of ALL
    labels, also of those that no kept prediction could hit. It is exact: no histogram.

    Ties: of equal scores within an example the lower class is kept; in the pool, equal
    scores share one threshold, so that a hit's precision counts all entries of at least
    its score. Hence the order of examples and their split into batches and replicas
    make no difference. (The starter code orders ties by chance.)

    Cost: `5 * top_k + 4` bytes per example: 116 MB for 1,112,356 examples and top 20,
    where `max_examples` says how many; a buffer that grows holds up to 1.5 times that,
    and 2.5 times while it moves. `result` sorts all entries, with about 60 bytes of
    passing memory for each.

    Keras asks for the result in every step. So a graph that both updates and asks, as
    Keras' steps do, gets the value as of the last sort, and sorts anew only when the
    examples have grown by the share `refresh` since. Every other call, such as that
    of `fit` and `evaluate` at their ends, is exact and of all examples. A step of your
    own with both in one graph asks again outside of it, or sets `refresh=0`.

    Under a strategy, make it within `strategy.scope()`. Replicas keep their own
    entries; outside of replicas, `result` ranks the entries of all of them, and when
    called eagerly those of all workers. Within a step the value can be that of the
    replica's own entries.

    >>> from ensemble_heads import metrics
    >>> metric = metrics.GlobalAveragePrecision(top_k=2)
    >>> metric.update_state([[1, 0, 1], [0, 1, 0]], [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    >>> round(float(metric.result()), 4)  # (1/1 + 2/3) / 3
    0.5556

    Args:
        top_k: int >= 1, predictions kept per example; all of fewer classes.
        max_examples: int, examples that a replica can see between two resets: a fixed
            buffer, needed where XLA compiles the step. More are an error, and NaN in a
            graph. None: the buffer grows, not under XLA.
        refresh: float >= 0, see above.
        name: str.
        dtype: dtype of the result; it is computed in float64.

    Input of `update_state`:
        y_true: `[batch, classes]`, multi-hot, 0 or 1 of any dtype.
        y_pred: `[batch, classes]`, scores of a floating dtype, ranked as float32.
        sample_weight: `[batch]`, >= 0. Each entry and label of the example counts that
            much, in precisions and in the number of labels; 0 leaves the example out,
            whatever it holds.

    Raises:
        ValueError: bad arguments or shapes; from an eager `result`, NaN predictions,
            targets other than 0 and 1, bad weights, too many examples.

    References:
        Abu-El-Haija et al. 2016, arXiv:1609.08675; the 2017 Kaggle challenge.
    """

    def __init__(
        self, top_k=20, max_examples=None, refresh=0.25, name="gap", dtype=None
    ):
        super().__init__(None, top_k, max_examples, refresh, name, dtype)

    def _summary(self, precisions, positives):
        return precisions[0]
