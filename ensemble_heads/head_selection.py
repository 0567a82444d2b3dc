"""Which heads to keep: greedy selection of an ensemble's members on held-out data."""

import tensorflow as tf

from ensemble_heads import ensemblers, input_checks
from ensemble_heads.labelled_batches import labelled_batches
from ensemble_heads.predictions import EnsemblePrediction, Prediction
from ensemble_heads.training_plan import reduce_losses


def greedy_heads(model, data, max_heads=None):
    """The heads whose ensemble is best on held-out data, found one after the other.

    Begins with the head of lowest loss, and adds the one that lowers the loss of the
    ensemble most, as long as any does. The heads are run once; then ensembles of what
    they said are compared.

    ```python
    >>> import numpy as np
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> inputs = keras.Input((4,))
    >>> shared = keras.layers.Dense(8, activation="relu", name="shared")(inputs)
    >>> single = keras.Model(inputs, keras.layers.Dense(1)(shared))
    >>> model = eh.multi_head(single, fork_at="shared", num_heads=5)
    >>> model.compile("sgd", "mse")
    >>> held_out = np.ones([6, 4]), np.ones([6, 1])
    >>> best = model.select_heads(eh.greedy_heads(model, held_out, max_heads=3))
    >>> best.num_heads <= 3
    True

    ```

    Args:
        model: `eh.MultiHeadModel`, compiled: with its base losses and `loss_weights`
            the ensembles are compared.
        data: finite `tf.data.Dataset` or Keras `PyDataset` (`Sequence`) of batches
            `(x, y)` or `(x, y, sample_weight)`, or such a tuple of arrays.
        max_heads: int >= 1, at most so many. Default: no limit.

    Returns:
        List of the indices of the heads, in the order in which they were chosen, for
        `model.select_heads` or `eh.export(…, heads=…)`.

    Raises:
        ValueError: a model that is not compiled, or whose ensembler has weights, which
            belong to all heads together; no data, or data without an end; or a bad
            `max_heads`.

    References:
        Caruana et al. 2004, Ensemble Selection from Libraries of Models.
    """
    _check(model, max_heads)
    data, _ = labelled_batches(data, model.outputs_like)
    batches = [_said(model, *batch) for batch in data]
    if not batches:
        raise ValueError(
            "`data` must hold at least one batch. Received: a dataset without any"
        )
    chosen, best = [], None
    left = list(range(model.num_heads))
    while left and len(chosen) < (max_heads or model.num_heads):
        losses = [_loss(model, batches, [*chosen, head]) for head in left]
        lowest = min(losses)
        if best is not None and not lowest < best:
            break
        best = lowest
        chosen.append(left.pop(losses.index(lowest)))
    return chosen


def _check(model, max_heads):
    plan = getattr(model, "_plan", None)
    if plan is None or not any(plan.base_losses):
        raise ValueError(
            "`model` must be compiled with a loss, by which ensembles are compared. "
            f"Received: model={model!r}"
        )
    for layer in model.flat_ensemblers():
        if layer.weights:
            raise ValueError(
                "`model` must have an ensembler without weights: they were made for "
                f"all heads together. Received: ensembler={layer.name}"
            )
    is_count = isinstance(max_heads, int) and not isinstance(max_heads, bool)
    if max_heads is not None and not (is_count and max_heads >= 1):
        raise ValueError(
            "`max_heads` must be an integer of at least 1. "
            f"Received: max_heads={max_heads!r}"
        )


def _said(model, x, y, weights):
    """(targets, weights, the heads' `EnsemblePrediction`) of a batch, flat lists."""
    predictions = model.forward(x, training=False)
    return *model._plan.flatten_targets(y, weights), predictions


def _loss(model, batches, indices):
    """The mean loss of the ensemble of some heads, over all batches by their size."""
    total, examples = 0.0, 0
    for targets, weights, predictions in batches:
        size = int(tf.shape(predictions[0].ensemble.logits)[0])
        total += size * float(
            _batch_loss(model, targets, weights, predictions, indices)
        )
        examples += size
    return total / examples


def _batch_loss(model, targets, weights, predictions, indices):
    plan, values = model._plan, {}
    for i, layer in enumerate(model.flat_ensemblers()):
        base, target = plan.base_losses[i], targets[i]
        if base is None or target is None:
            continue
        heads, mask = predictions[i].heads, predictions[i].mask
        some = tf.gather(heads.logits, indices, axis=1)
        some = Prediction(some, heads.link, heads.form)
        both = EnsemblePrediction(some, ensemblers.combine(layer, some), mask=mask)
        target = input_checks.without_uncounted(base, target, both, weights[i])
        losses = base(target, both.ensemble)
        counted = base.counted(target, both)
        values[i] = reduce_losses(losses, weights[i], counted, base.reduction)
    return plan.total(values)
