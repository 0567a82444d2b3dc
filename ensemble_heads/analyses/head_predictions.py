"""What heads and ensemble said of labelled examples: what analyses work on."""

import dataclasses

import numpy as np
import tensorflow as tf

from ensemble_heads import ensemblers
from ensemble_heads.predictions import Prediction

LINKS = ("softmax", "sigmoid")

_MOST_NUMBERS = 2**25  # at once, in the means of many groups of heads


@dataclasses.dataclass(frozen=True, eq=False)
class HeadPredictions:
    """Labels and raw predictions of a classifier; `collect` makes it from a model.

    One class per example is `link="softmax"`; an output of one sigmoid unit becomes two
    classes with logits 0 and z, which say the same. `link="sigmoid"` is left for
    several labels per example.

    Attributes:
        labels: int64 `[examples]`, class numbers; or bool `[examples, classes]` where
            the link is `"sigmoid"`.
        head_logits: float32 `[examples, heads, classes]`, the heads' raw outputs.
        ensemble_logits: float32 `[examples, classes]`, raw output of the ensemble.
        link: `"softmax"` or `"sigmoid"`.
        ensembler: the model's ensembler layer, or None where it is not known.
        form: `"probabilities"` or `"logits"`, the form in which it takes predictions.
        one_unit: bool, whether the model has one sigmoid unit for two classes.
        weights: float64 `[examples]`, at least 0, what the examples weigh in all that
            is counted or averaged; None where they all weigh the same.
    """

    labels: np.ndarray
    head_logits: np.ndarray
    ensemble_logits: np.ndarray
    link: str = "softmax"
    ensembler: object = None
    form: str = "probabilities"
    one_unit: bool = False
    weights: np.ndarray | None = None

    def __post_init__(self):
        if self.link not in LINKS:
            raise ValueError(f"`link` must be one of {LINKS}. Received: {self.link!r}")
        examples, heads, classes = self.head_logits.shape
        wanted = (examples,) if self.link == "softmax" else (examples, classes)
        shapes = self.labels.shape, self.ensemble_logits.shape
        if shapes != (wanted, (examples, classes)) or not examples:
            raise ValueError(
                "`labels`, `head_logits` and `ensemble_logits` must be of at least one "
                f"example, and of shapes {wanted}, [examples, heads, classes] and "
                f"{(examples, classes)}. Received: {shapes[0]}, "
                f"{self.head_logits.shape}, {shapes[1]}"
            )
        self._check_labels()
        self._check_weights()
        absent = np.isnan(self.head_logits).any(axis=(0, 2))
        if absent.any() or np.isnan(self.ensemble_logits).any():
            found = (
                f"heads {np.flatnonzero(absent)}" if absent.any() else "the ensemble"
            )
            raise ValueError(
                "Predictions must not be NaN, which would count as the highest score. "
                f"Received: NaN from {found}"
            )

    @classmethod
    def from_logits(
        cls, labels, head_logits, link="softmax", ensembler="mean", weights=None
    ):
        """From raw outputs of heads alone; arguments as the attributes."""
        head_logits = np.asarray(head_logits, "float32")
        layer = ensemblers.get(ensembler)
        labels = _exactly(labels, bool if link == "sigmoid" else "int64")
        heads = Prediction(head_logits, link)
        ensemble_logits = _combined(layer, heads)
        if weights is not None:
            weights = np.asarray(weights, "float64")
        return cls(labels, head_logits, ensemble_logits, link, layer, weights=weights)

    @property
    def num_examples(self):
        return self.head_logits.shape[0]

    @property
    def num_heads(self):
        return self.head_logits.shape[1]

    @property
    def num_classes(self):
        return self.head_logits.shape[2]

    @property
    def head_probabilities(self):
        """float32 `[examples, heads, classes]`."""
        return Prediction(self.head_logits, self.link).probabilities.numpy()

    @property
    def ensemble_probabilities(self):
        """float32 `[examples, classes]`."""
        return Prediction(self.ensemble_logits, self.link).probabilities.numpy()

    @property
    def head_classes(self):
        """int64 `[examples, heads]`, every head's most probable class."""
        self.require_one_class("`head_classes`")
        return np.argmax(self.head_logits, axis=-1)

    @property
    def ensemble_classes(self):
        """int64 `[examples]`, the ensemble's most probable class."""
        self.require_one_class("`ensemble_classes`")
        return np.argmax(self.ensemble_logits, axis=-1)

    def mean(self, values):
        """The mean of `[examples, …]` over the examples, by their weights."""
        return np.average(values, axis=0, weights=self.weights)

    def sum(self, values):
        """The sum of `[examples, …]` over the examples, each times its weight."""
        if self.weights is None:
            return np.sum(values, axis=0)
        return np.tensordot(self.weights, values, axes=1)

    def logits_of(self, heads):
        """Raw output `[examples, classes]` of the ensemble of some heads alone.

        Args:
            heads: list of int, their indices.

        Raises:
            ValueError: the ensembler has weights, which belong to all heads together.
        """
        self.require_free_ensembler()
        logits = self.head_logits[:, np.asarray(heads)]
        if self.one_unit:
            some = Prediction(logits[..., 1:], "sigmoid", self.form)
            return _as_two_classes(_combined(self.ensembler, some))
        return _combined(self.ensembler, Prediction(logits, self.link, self.form))

    def classes_of(self, groups):
        """int64 `[groups, examples]`, as `ensemble_classes`, of some heads alone.

        Args:
            groups: list of lists of int, the heads of each ensemble.

        Raises:
            ValueError: as `logits_of`.
        """
        self.require_one_class("`classes_of`")
        self.require_free_ensembler()
        if type(self.ensembler) is not ensemblers.Mean:
            return np.array([np.argmax(self.logits_of(g), axis=-1) for g in groups])
        # A matrix product makes many means at once. The greatest mean probability
        # needs no logarithms: it is at least 1 / classes.
        of_logits = self.ensembler.of == "logits"
        terms = self.head_logits if of_logits else self.head_probabilities
        terms = np.moveaxis(terms, 1, 0).reshape(self.num_heads, -1)
        shares = np.zeros([len(groups), self.num_heads], "float32")
        for row, group in zip(shares, groups):
            row[np.asarray(group)] = 1 / len(group)
        rows = max(1, _MOST_NUMBERS // terms.shape[1])
        shape = -1, self.num_examples, self.num_classes
        return np.concatenate(
            [
                (shares[i : i + rows] @ terms).reshape(shape).argmax(axis=-1)
                for i in range(0, len(groups), rows)
            ]
        )

    def _check_labels(self):
        labels, most = self.labels, self.num_classes - 1
        if self.link == "sigmoid":
            right, rule = labels.dtype == bool, "bool where the link is sigmoid"
        else:
            whole = labels.dtype.kind in "iu"
            right = whole and labels.min() >= 0 and labels.max() <= most
            rule = f"class numbers from 0 to {most}, integers"
        if not right:
            raise ValueError(f"`labels` must be {rule}. Received: {labels!r}")

    def _check_weights(self):
        weights = self.weights
        if weights is None:
            return
        if weights.shape != self.head_logits.shape[:1]:
            raise ValueError(
                "`weights` must be one number per example, of shape "
                f"{self.head_logits.shape[:1]}. Received: {weights.shape}"
            )
        if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.any()):
            raise ValueError(
                "`weights` of examples must be finite, at least 0, and not all 0. "
                f"Received: weights from {weights.min()} to {weights.max()}"
            )

    def require_free_ensembler(self):
        """Raises ValueError if the ensembler is not known or has weights."""
        layer = self.ensembler
        if layer is None or layer.weights or ensemblers.uses_features(layer):
            name = None if layer is None else layer.name
            raise ValueError(
                "Analyses of some of the heads need an ensembler without weights, "
                "which are made for all heads together. Received: a model with "
                f"ensembler={name}"
            )

    def require_one_class(self, analysis):
        """Raises ValueError where examples have several labels."""
        if self.link != "softmax":
            raise ValueError(
                f"{analysis} is defined for one class per example. Received: an output "
                "of several labels, each with a sigmoid of its own"
            )


def two_classes(logits):
    """Raw outputs `[…, 1]` of a sigmoid unit as those of a softmax, `[…, 2]`."""
    return _as_two_classes(np.asarray(logits, "float32"))


def log_probabilities(logits):
    """Natural logarithm of the softmax over the last axis, float64."""
    return tf.nn.log_softmax(tf.cast(logits, tf.float64)).numpy()


def log_odds_parts(logits):
    """(log p, log (1 - p)) of sigmoid outputs, float64."""
    logits = tf.cast(logits, tf.float64)
    return tf.math.log_sigmoid(logits).numpy(), tf.math.log_sigmoid(-logits).numpy()


def terms_of_mean(logs, values):
    """Values by their probabilities exp(logs), 0 where these are, as for 0 log 0."""
    weights = np.exp(logs)
    return weights * np.where(weights > 0, values, 0.0)


def _exactly(labels, dtype):
    """Labels as another type; ValueError if they are others there."""
    given = np.asarray(labels)
    rule = "0 or 1" if dtype is bool else "whole"
    converted = given.astype(dtype) if given.dtype.kind in "biuf" else None
    if converted is None or not np.array_equal(converted, given):
        raise ValueError(f"`labels` must be {rule}. Received: {labels!r}")
    return converted


def _as_two_classes(logits):
    return np.concatenate([np.zeros_like(logits), logits], axis=-1)


def _combined(layer, heads):
    logits = ensemblers.combine(layer, heads, training=False).logits
    return tf.cast(logits, tf.float32).numpy()
