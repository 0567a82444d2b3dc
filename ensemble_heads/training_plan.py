"""What `compile` decides: the loss of a batch and what is logged about it."""

import tensorflow as tf

from ensemble_heads import base_losses, input_checks, losses
from ensemble_heads.keras_api import keras
from ensemble_heads.metric_sets import MetricSet
from ensemble_heads.target_shapes import left_aligned


class TrainingPlan:
    """Losses, weights and metrics of a compiled multi-headed model.

    A plain object, not a Keras one: Keras 2 would count the variables of metrics
    that are attributes of a model among the weights of the model.

    Args:
        outputs: `Outputs` of the model.
        taken_links: list, what was taken off every output of the heads.
        num_heads: int.
        ensemblers: list of the ensembler layers, one per output.
        shapes: list of tuples, the shapes of one head's outputs.
        loss, loss_weights, ensemble_loss: as `compile` takes them.
        metrics, weighted_metrics, head_metrics, weighted_head_metrics: the same.

    Attributes:
        links: tuple, what the raw outputs of every output mean, as the loss says.
        first_batch: `FirstBatch`.
    """

    def __init__(
        self,
        outputs,
        taken_links,
        num_heads,
        ensemblers,
        shapes,
        loss=None,
        loss_weights=None,
        ensemble_loss=None,
        metrics=None,
        weighted_metrics=None,
        head_metrics=None,
        weighted_head_metrics=None,
    ):
        self.outputs = outputs
        wanted = outputs.flatten(loss, "loss", shared=True)
        self.base_losses = [base_losses.make(one) for one in wanted]
        self.loss_weights = _loss_weights(outputs, loss_weights)
        self.ensemble_loss = losses.get(ensemble_loss)
        self.ensembler_gradient = self.ensemble_loss.ensembler_gradient(num_heads)
        self.links = tuple(
            _resolved_link(base, link, name)
            for base, link, name in zip(
                self.base_losses, taken_links, outputs.names, strict=True
            )
        )
        self._check_outputs(num_heads, ensemblers, shapes)
        self.metrics = MetricSet(
            *(outputs, num_heads, metrics, weighted_metrics),
            *(head_metrics, weighted_head_metrics),
        )
        self.first_batch = input_checks.FirstBatch()
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.output_trackers = {
            i: keras.metrics.Mean(name=f"{outputs.names[i]}_loss")
            for i, base in enumerate(self.base_losses)
            if len(outputs) > 1 and base is not None
        }

    def _check_outputs(self, num_heads, ensemblers, shapes):
        for name, base, link, shape, ensembler in zip(
            self.outputs.names,
            self.base_losses,
            self.links,
            shapes,
            ensemblers,
            strict=True,
        ):
            if base is not None:
                self.ensemble_loss.check(
                    losses.HeadedOutput(name, base, link, shape, num_heads, ensembler)
                )

    def keras_metrics(self):
        """List of every Keras metric, the loss first."""
        trackers = [self.loss_tracker, *self.output_trackers.values()]
        return trackers + [entry.metric for entry in self.metrics.entries]

    def results(self):
        """{name in the logs: current value}."""
        trackers = [self.loss_tracker, *self.output_trackers.values()]
        logs = {tracker.name: tracker.result() for tracker in trackers}
        return {**logs, **self.metrics.results()}

    def flatten_targets(self, targets, weights):
        """Targets and sample weights as flat lists, one entry per output."""
        if targets is None:
            raise ValueError(
                "`y` must be given: the model was compiled with a loss that compares "
                "predictions with targets. Received: y=None"
            )
        return (
            self.outputs.flatten(targets, "y"),
            self.outputs.flatten(weights, "sample_weight", shared=True),
        )

    def losses_of(self, targets, weights, predictions, assert_labels):
        """The loss of a batch, per output, not yet weighted by `loss_weights`.

        Args:
            targets, weights: flat lists, see `flatten_targets`.
            predictions: flat list of `EnsemblePrediction`.
            assert_labels: bool, put assertions on labels into the graph.

        Returns:
            {position of an output: scalar} for those that have a loss and targets;
            means over the batch of this replica, or sums where the base loss sums.
        """
        parts = {}
        for i, base in enumerate(self.base_losses):
            if base is None or targets[i] is None:
                continue
            target, prediction = targets[i], predictions[i]
            base.match(target, prediction.ensemble)  # Shapes first, then values.
            if assert_labels:
                target = input_checks.assert_labels(
                    base, target, prediction, weights[i], self.outputs.names[i]
                )
            target = input_checks.without_uncounted(
                base, target, prediction, weights[i]
            )
            prediction.weights = weights[i]
            parts[i] = base, target, prediction
        if not parts:
            raise ValueError(
                "`loss` must be given to `compile` before training or evaluating. "
                "Received: loss=None"
            )
        self.ensemble_loss.look_at_outputs(
            [(*part, self.loss_weights[i]) for i, part in parts.items()]
        )
        results = {}
        for i, (base, target, prediction) in parts.items():
            values = self.ensemble_loss(base, target, prediction)
            mask = base.counted(target, prediction)
            results[i] = reduce_losses(values, weights[i], mask, base.reduction)
        return results

    def total(self, values):
        """Sum of the outputs' losses by their weights."""
        return sum(self.loss_weights[i] * value for i, value in values.items())

    def track(self, total, values, targets, weights, predictions):
        """Updates all metrics by one batch and returns the logs."""
        batch = tf.shape(predictions[0].ensemble.logits)[0]
        self.loss_tracker.update_state(total, sample_weight=batch)
        for i, value in values.items():
            if i in self.output_trackers:
                self.output_trackers[i].update_state(value, sample_weight=batch)
        counted = [
            _counted(base, target, prediction)
            for base, target, prediction in zip(
                self.base_losses, targets, predictions, strict=True
            )
        ]
        self.metrics.update(targets, predictions, weights, counted)
        return self.results()


def reduce_losses(values, weights, mask, reduction):
    """One number from the losses of a batch, as Keras' losses reduce.

    Args:
        values: `[batch, …]`.
        weights: sample weights that broadcast from the left, or None.
        mask: bool `[batch, …]` of the positions that count, or None.
        reduction: `"mean"` divides by the number of positions that count (not by
            the sum of the weights), `"mean_with_sample_weight"` by the sum of the
            weights, `"sum"` by nothing. Under `"sum"` the result is multiplied by
            the number of replicas, since the caller divides by it.

    Returns:
        Scalar.
    """
    counted = tf.ones_like(values) if mask is None else tf.cast(mask, values.dtype)
    counted = tf.broadcast_to(left_aligned(counted, values), tf.shape(values))
    if mask is not None:
        values = tf.where(counted > 0, values, 0.0)
    weighting = counted
    if weights is not None:
        weighting *= left_aligned(tf.cast(weights, values.dtype), values)
    total = tf.reduce_sum(values * weighting)
    if reduction == "sum":
        return total * tf.distribute.get_strategy().num_replicas_in_sync
    by_weight = reduction == "mean_with_sample_weight"
    return tf.math.divide_no_nan(
        total, tf.reduce_sum(weighting if by_weight else counted)
    )


def _counted(base, target, prediction):
    if base is None or target is None:
        return prediction.mask
    return base.counted(target, prediction)


def _loss_weights(outputs, loss_weights):
    weights = outputs.flatten(loss_weights, "loss_weights", shared=True)
    return [1.0 if weight is None else float(weight) for weight in weights]


def _resolved_link(base, link, output):
    """What raw outputs mean when this base loss is trained on them."""
    if base is None or not base.from_logits:
        return link
    if link != "linear":
        raise ValueError(
            f"`loss` {base.name} has from_logits=True, but output `{output}` of the "
            f"single model is not raw: it ends in a {link} activation. Pass "
            "from_logits=False, or build the single model without that activation. "
            f"Received: from_logits=True for a {link} output"
        )
    return base.link
