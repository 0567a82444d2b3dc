"""Keras metrics for the ensemble and for every head, under Keras' usual names.

A metric with a true attribute `of_all_heads`, such as `eh.metrics.OracleAccuracy`, sees
the stack `[batch, heads, …]` in whichever argument it comes, and is logged once.

All metrics exist from `compile` on: "accuracy" and "crossentropy" choose their
formula by the shape of the targets they meet, not when they are made.
"""

import dataclasses
import re

import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, keras


@dataclasses.dataclass
class _Entry:
    metric: object
    name: str
    output: int
    head: int | None
    weighted: bool

    @property
    def of_all_heads(self):
        return getattr(self.metric, "of_all_heads", False)

    def update(self, target, prediction, weight, counted, known):
        """Takes a batch.

        Args:
            target: tensor.
            prediction: `EnsemblePrediction`.
            weight: tensor or None.
            counted: bool tensor of the positions whose labels count, or None.
            known: dict by output, in which the heads' values are kept for all entries.
        """
        values = self._values(prediction, known)
        if self.of_all_heads:
            if counted is not None:
                weight = _masked_weight(weight, counted, values.dtype)
        else:
            if prediction.mask is not None:
                weight = _with_mask(values, weight, prediction.mask)
            target = _same_rank(target, values)
        self.metric.update_state(target, values, sample_weight=weight)

    def _values(self, prediction, known):
        """What the metric sees: in the form of the single model's output."""
        if self.of_all_heads:
            return prediction.heads.values
        if self.head is None:
            return prediction.ensemble.values
        if self.output not in known:
            known[self.output] = tf.unstack(prediction.heads.values, axis=1)
        return known[self.output][self.head]


class MetricSet:
    """All metrics of a compiled multi-headed model.

    With several outputs, names start with the output's; with heads, with
    `head_<i>_`.

    Args:
        outputs: `Outputs` of the model.
        num_heads: int.
        metrics, weighted_metrics, head_metrics, weighted_head_metrics: as `compile`
            takes them. With several outputs: a dict by output name, a list with an
            entry for each output, or else a list that is meant for all of them.
    """

    def __init__(
        self,
        outputs,
        num_heads,
        metrics=None,
        weighted_metrics=None,
        head_metrics=None,
        weighted_head_metrics=None,
    ):
        self.outputs = outputs
        self.entries = []
        self._add("metrics", metrics)
        self._add("weighted_metrics", weighted_metrics, weighted=True)
        for head in range(num_heads):
            self._add("head_metrics", head_metrics, head=head)
        for head in range(num_heads):
            self._add("weighted_head_metrics", weighted_head_metrics, True, head)

    def results(self):
        """{name: current value}."""
        return {entry.name: entry.metric.result() for entry in self.entries}

    def update(self, targets, predictions, weights, counted):
        """Takes one batch.

        Args:
            targets: flat list of tensors or None, one per output.
            predictions: flat list of `EnsemblePrediction`.
            weights: flat list of tensors or None.
            counted: flat list of bool tensors or None: the positions that neither the
                base loss nor the model leaves out. Metrics of all heads refuse labels
                that are none, so they leave these out; others do as in Keras' step.
        """
        known = {}
        for entry in self.entries:
            target, prediction = targets[entry.output], predictions[entry.output]
            if target is None:
                continue
            weight = weights[entry.output] if entry.weighted else None
            entry.update(target, prediction, weight, counted[entry.output], known)

    def _add(self, argument, metrics, weighted=False, head=None):
        several = len(self.outputs) > 1
        for output, wanted in enumerate(_per_output(self.outputs, argument, metrics)):
            output_prefix = f"{self.outputs.names[output]}_" if several else ""
            for identifier in _as_list(wanted):
                once = getattr(identifier, "of_all_heads", False)
                if once and head:  # The first head has made it.
                    continue
                prefix = "" if head is None or once else f"head_{head}_"
                prefix += output_prefix
                own = _own_name(identifier)
                name = self._free_name(prefix, own, weighted)
                # Keras 3 finds results by the names of the objects.
                metric = _make(identifier, None if name == own else name)
                self.entries.append(_Entry(metric, name, output, head, weighted))

    def _free_name(self, prefix, own, weighted):
        taken = {entry.name for entry in self.entries}
        name = prefix + own
        if name in taken and weighted:
            name = f"{prefix}weighted_{own}"
        number, free = 1, name
        while free in taken:
            free = f"{name}_{number}"
            number += 1
        return free


def accuracy(y_true, y_pred):
    """Binary, sparse or categorical accuracy, chosen by shape as Keras does."""
    return _by_shape("accuracy", y_true, y_pred)


def crossentropy(y_true, y_pred):
    """Binary, sparse or categorical cross entropy, chosen by shape as Keras does."""
    return _by_shape("crossentropy", y_true, y_pred)


_BY_SHAPE = {
    "accuracy": accuracy,
    "acc": accuracy,
    "crossentropy": crossentropy,
    "ce": crossentropy,
}


def _by_shape(kind, y_true, y_pred):
    is_sparse = len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1
    if y_pred.shape[-1] == 1:
        name = "binary"
    else:
        name = "sparse_categorical" if is_sparse else "categorical"
    return getattr(keras.metrics, f"{name}_{kind}")(y_true, y_pred)


def _make(identifier, name):
    """The metric of this name; without one, the user's own object is taken as it is."""
    if isinstance(identifier, str) and identifier.lower() in _BY_SHAPE:
        function = _BY_SHAPE[identifier.lower()]
        metric = keras.metrics.MeanMetricWrapper(function, name=name or identifier)
        metric._direction = "up" if function is accuracy else "down"  # Keras 3
        return metric
    if isinstance(identifier, keras.metrics.Metric) and name is None:
        return identifier
    metric = _resolve(identifier)
    name = name or _own_name(identifier)
    if not isinstance(metric, keras.metrics.Metric):
        return keras.metrics.MeanMetricWrapper(metric, name=name)
    copy = type(metric).from_config({**metric.get_config(), "name": name})
    copy._direction = getattr(metric, "_direction", None)
    return copy


def _resolve(identifier):
    """A metric object or a function."""
    metric = identifier() if isinstance(identifier, type) else identifier
    return keras.metrics.get(metric)


def _own_name(identifier):
    """What the logs call it: a string as it is, an object by its name."""
    if isinstance(identifier, str) and identifier.lower() in _BY_SHAPE:
        return identifier
    metric = _resolve(identifier)
    if not isinstance(metric, keras.metrics.Metric):
        name = identifier if isinstance(identifier, str) else metric.__name__
        return name.strip("<>") if KERAS_3 else name  # of a lambda
    if isinstance(identifier, str) and KERAS_3:
        return identifier
    if isinstance(identifier, keras.metrics.Metric):
        return identifier.name
    # Keras 2 numbers the objects that it names by itself.
    return re.sub(r"_\d+$", "", metric.name)


def _per_output(outputs, argument, metrics):
    if metrics is None:
        return [None] * len(outputs)
    if isinstance(metrics, dict):
        return outputs.flatten(metrics, argument)
    entries = _as_list(metrics)
    if len(outputs) > 1 and len(entries) == len(outputs):
        return entries
    if any(isinstance(entry, (list, tuple)) for entry in entries):
        return outputs.flatten(entries, argument)
    return [entries] * len(outputs)


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _with_mask(values, weight, mask):
    """The sample weight that makes a metric see the mask as in Keras' own step."""
    if KERAS_3:
        values._keras_mask = mask
        return weight
    return _masked_weight(weight, mask, values.dtype)


def _masked_weight(weight, mask, dtype):
    """The sample weight, 0 where the mask is false: `[batch, …]`, as the mask."""
    mask = tf.cast(mask, dtype)
    if weight is None:
        return mask
    weight = tf.cast(weight, dtype)
    if weight.shape.rank > mask.shape.rank:
        weight = weight[..., 0]
    for _ in range(mask.shape.rank - weight.shape.rank):
        weight = weight[..., tf.newaxis]
    return mask * weight


def _same_rank(target, values):
    rank = len(values.shape)
    if len(target.shape) == rank - 1 and values.shape[-1] == 1:
        return target[..., None]
    return target
