"""What the conformance suite puts through its checks: one row per public class.

A new public layer, loss or metric of `ensemble_heads` or `zoo` needs a row here;
`test_conformance.py` finds it by walking the packages, and fails without one.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import ensemble_heads as eh
import zoo
import zoo.batch_norm
import zoo.frame_layers
import zoo.gating
import zoo.local_response
import zoo.moe
import zoo.region_pooling
import zoo.vlad
from ensemble_heads import (
    base_losses,
    detection,
    ensemblers,
    head_layouts,
    losses,
    metrics,
    predictions,
)
from ensemble_heads.head_layouts import stacked_layers, stacked_normalization
from ensemble_heads.keras_api import keras
from ensemble_heads.metrics import (
    all_heads_metric,
    buffered_metric,
    checked_metric,
    pooled_precision,
    scored_metric,
    summed_metric,
)
from tests import small_models

BATCH = 5


@dataclasses.dataclass(frozen=True)
class LayerCase:
    """A layer: how to make it, and an example of what it takes."""

    make: Callable
    inputs: Callable
    atol: float = 1e-5


@dataclasses.dataclass(frozen=True)
class LossCase:
    """A loss as a function `(target, logits) -> per-example losses`."""

    make: Callable
    call: Callable
    logits: tuple


def rated():
    """Multi-hot targets and scores that go with them."""
    scores = np.random.normal(size=(BATCH, 7)).astype("float32")
    noise = np.random.normal(size=scores.shape)
    return (scores + noise > 0.5).astype("float32"), scores


def rated_by_heads():
    """Class numbers and scores of three heads that go with some of them."""
    scores = np.random.normal(size=(BATCH, 3, 4)).astype("float32")
    labels = np.argmax(scores[:, 1], axis=-1)
    return (labels + (np.arange(BATCH) < 2)) % 4, scores


@dataclasses.dataclass(frozen=True)
class MetricCase:
    """A metric: how to make it, and a batch of what it takes."""

    make: Callable
    batch: Callable = rated


def draw(*shape):
    return lambda: np.random.normal(size=(BATCH, *shape)).astype("float32")


def separate_heads():
    heads = [small_models.dense_head(4, name=f"head_{i}") for i in range(2)]
    return head_layouts.SeparateHeads(heads)


def head_tree():
    return small_models.dense_tree().wrapper.layout.select([2, 0, 1])


def stacked_heads():
    heads = [small_models.dense_head(4, name=f"head_{i}") for i in range(2)]
    return head_layouts.StackedHeads.from_heads(heads)


def wrapper():
    return eh.MultiHeadWrapper.from_layout(separate_heads(), "softmax")


def features_and(*shape):
    """Predictions of heads, and features of a trunk for a gate to see."""
    return lambda: [draw(*shape)(), draw(2, 2, 6)()]


def ensemble_loss(loss, labels, logits, observed=None):
    heads = predictions.Prediction(logits, "softmax")
    ensemble = predictions.mean_of_probabilities(heads.logits, "softmax")
    both = predictions.EnsemblePrediction(heads, ensemble)
    both.observed = observed
    base = base_losses.make("sparse_categorical_crossentropy")
    return loss(base, labels, both)


def bagging_loss(loss, labels, logits):
    return ensemble_loss(loss, labels, logits, tf.range(tf.shape(logits)[0]))


def distillation_loss(loss, labels, logits):
    teacher = tf.one_hot(labels, 4, 0.7, 0.1)
    return ensemble_loss(loss, labels, logits, teacher)


def box_loss(loss, labels, offsets):
    numbers = tf.cast(labels % 3, "float32")[:, tf.newaxis]
    return loss.call(
        tf.concat([numbers, tf.ones_like(numbers) * [[0.3] * 4]], 1), offsets
    )


def map_and_boxes():
    corners = np.sort(np.random.uniform(size=(BATCH, 3, 2, 2)), axis=2)
    return [draw(4, 5, 3)(), corners.reshape(BATCH, 3, 4).astype("float32")]


def first(x, size):
    """The first examples of a structure of arrays."""
    return tf.nest.map_structure(lambda array: array[:size], x)


LAYERS = {
    ensemblers.Mean: LayerCase(lambda: eh.ensemblers.Mean("logits"), draw(3, 4)),
    ensemblers.Gated: LayerCase(
        lambda: eh.ensemblers.Gated(momentum=0.8), features_and(3, 4)
    ),
    ensemblers.MixtureOfExperts: LayerCase(
        eh.ensemblers.MixtureOfExperts, features_and(3, 4)
    ),
    eh.MultiHeadWrapper: LayerCase(wrapper, draw(7)),
    head_layouts.SeparateHeads: LayerCase(separate_heads, draw(7)),
    head_layouts.HeadTree: LayerCase(head_tree, draw(7)),
    eh.MultiHeadModel: LayerCase(
        lambda: small_models.dense_model(2, ensembler=eh.ensemblers.Mean("logits")),
        draw(small_models.FEATURES),
    ),
    head_layouts.StackedHeads: LayerCase(stacked_heads, draw(7)),
    stacked_layers.StackedDense: LayerCase(
        lambda: stacked_layers.StackedDense(3, num_heads=2, activation="tanh"), draw(8)
    ),
    stacked_layers.StackedConv: LayerCase(
        lambda: stacked_layers.StackedConv(3, (2, 2), num_heads=2, padding="same"),
        draw(4, 4, 6),
    ),
    stacked_normalization.StackedLayerNormalization: LayerCase(
        lambda: stacked_normalization.StackedLayerNormalization(num_heads=2), draw(3, 8)
    ),
    stacked_layers.TileHeads: LayerCase(
        lambda: stacked_layers.TileHeads(num_heads=3), draw(4, 5)
    ),
    stacked_layers.HeadsAsExamples: LayerCase(
        lambda: stacked_layers.HeadsAsExamples(keras.layers.Softmax(), num_heads=2),
        draw(3, 4),
    ),
    zoo.batch_norm.BatchNormalization: LayerCase(
        lambda: zoo.batch_norm.BatchNormalization(momentum=0.9, epsilon=1e-3),
        draw(6, 6, 3),
    ),
    zoo.local_response.LocalResponseNormalization: LayerCase(
        lambda: zoo.local_response.LocalResponseNormalization(3, alpha=2.0, bias=2.0),
        draw(4, 4, 5),
    ),
    zoo.region_pooling.RegionPooling: LayerCase(
        lambda: zoo.region_pooling.RegionPooling(2, samples=3), map_and_boxes
    ),
    zoo.moe.MixtureOfLogisticExperts: LayerCase(
        lambda: zoo.moe.MixtureOfLogisticExperts(3, num_experts=2), draw(4)
    ),
    **{
        pooling: LayerCase(pooling, draw(6, 4))
        for pooling in (
            zoo.frame_layers.ClearPadding,
            *zoo.frame_layers.POOLINGS.values(),
        )
    },
}
# Layers of several inputs or outputs: the models that hold them go through graph,
# file, precision and XLA in tests/zoo/test_video_*.py. A metric of dicts of boxes: does
# so in tests/test_voc_mean_average_precision.py.
ELSEWHERE = {
    metrics.VOCMeanAveragePrecision,
    zoo.frame_layers.FrameMask,
    zoo.frame_layers.SplitFeatures,
    zoo.gating.MultiplyProbabilities,
    zoo.vlad.GroupedVLAD,
}
LOSSES = {
    losses.Ensembling: LossCase(lambda: losses.Ensembling(-1.5), ensemble_loss, (3, 4)),
    losses.CoDistillation: LossCase(
        lambda: losses.CoDistillation(3.0), ensemble_loss, (3, 4)
    ),
    losses.EnsembleMean: LossCase(
        lambda: losses.EnsembleMean("probabilities"), ensemble_loss, (3, 4)
    ),
    losses.Modular: LossCase(lambda: losses.Modular(0.7), ensemble_loss, (3, 4)),
    losses.MultipleChoice: LossCase(
        lambda: losses.MultipleChoice(2, 0.1, seed=5), ensemble_loss, (3, 4)
    ),
    losses.OnTheFly: LossCase(
        lambda: losses.OnTheFly(2.0, ramp_up_steps=9), ensemble_loss, (3, 4)
    ),
    losses.MutualLearning: LossCase(
        lambda: losses.MutualLearning(0.5, 2.0), ensemble_loss, (3, 4)
    ),
    losses.Bagging: LossCase(
        lambda: losses.Bagging(3, id_key="id"), bagging_loss, (3, 4)
    ),
    losses.Distillation: LossCase(
        lambda: losses.Distillation(None, 2.0), distillation_loss, (3, 4)
    ),
    detection.BoxRegression: LossCase(detection.BoxRegression, box_loss, (8,)),
    losses.SparseCategoricalCrossentropy: LossCase(
        lambda: losses.SparseCategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1
        ),
        lambda loss, labels, logits: loss.call(labels, logits),
        (4,),
    ),
}
METRICS = {
    metrics.GlobalAveragePrecision: MetricCase(
        lambda: metrics.GlobalAveragePrecision(top_k=3, max_examples=50, refresh=0)
    ),
    metrics.MeanAveragePrecision: MetricCase(
        lambda: metrics.MeanAveragePrecision(
            7, top_k=3, classes_without_positives="zero", max_examples=50, refresh=0
        )
    ),
    metrics.HitAtOne: MetricCase(metrics.HitAtOne),
    metrics.PrecisionAtEqualRecall: MetricCase(
        lambda: metrics.PrecisionAtEqualRecall("skip")
    ),
    **{
        metric: MetricCase(lambda metric=metric: metric(0.4), rated_by_heads)
        for metric in (
            metrics.HeadDisagreement,
            metrics.MeanHeadAccuracy,
            metrics.OracleAccuracy,
        )
    },
}
# Classes to derive from, which do nothing by themselves.
ABSTRACT = {
    checked_metric.CheckedMetric,
    scored_metric.AveragedMetric,
    scored_metric.ScoredMetric,
    buffered_metric.BufferedMetric,
    pooled_precision.PooledPrecision,
    summed_metric.SummedMetric,
    all_heads_metric.AllHeadsMetric,
    ensemblers.Ensembler,
    ensemblers.FeatureGate,
    head_layouts.HeadLayout,
    losses.EnsembleLoss,
    losses.LossOfHeads,
    zoo.frame_layers.FramePooling,
}

KINDS = (
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    losses.EnsembleLoss,
)


def public_classes():
    """Every public layer, loss and metric class that the packages define."""
    found = set()
    for package in (eh, zoo):
        names = [package.__name__]
        names += [
            info.name
            for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        ]
        for name in names:
            module = importlib.import_module(name)
            for attribute, value in inspect.getmembers(module, inspect.isclass):
                own = value.__module__.partition(".")[0] == package.__name__
                if own and not attribute.startswith("_") and issubclass(value, KINDS):
                    found.add(value)
    return found


def unknown_batch(array):
    """The shape of an array with the batch left open, as `tf.function` takes it."""
    return tf.TensorSpec((None, *array.shape[1:]), array.dtype)
