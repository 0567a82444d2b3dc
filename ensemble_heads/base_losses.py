"""The base loss l(g, p): what Keras accepts as a loss, per example and on logits.

An ensemble loss needs l for every head and for the ensemble, without reduction, and
also l(p_ens, p_i), where a prediction takes the place of the ground truth. Cross
entropies are computed here from logits, so that they stay finite for heads that are
entirely sure; every other loss sees the prediction in the single model's form.

Label smoothing belongs to the ground truth: it is left out of l(p_ens, p_i).
"""

import tensorflow as tf

from ensemble_heads.base_loss import BaseLoss
from ensemble_heads.keras_api import keras, register
from ensemble_heads.other_losses import OtherLoss, PoissonLoss
from ensemble_heads.predictions import Prediction
from ensemble_heads.target_shapes import match_dense, match_sparse

# As in Keras, focal factors are kept from 0, where powers below 1 have no gradient.
_SMALLEST_FACTOR = 1e-7


class CrossEntropy(BaseLoss):
    """Categorical or binary cross entropy, plain or focal, from logits.

    Args:
        config: the configuration of the Keras loss.
        link: `"softmax"` for categorical, `"sigmoid"` for binary.
        sparse: bool, targets are class numbers instead of probabilities.
        focal: bool.
    """

    def __init__(self, config, link, sparse=False, focal=False):
        super().__init__(config["name"], config.get("reduction"))
        if config.get("axis", -1) != -1:
            raise ValueError(
                f"`loss` {self.name} must have its classes on the last axis, which "
                f"is where heads have them. Received: axis={config['axis']}"
            )
        self.link = link
        self.sparse = sparse
        self.from_logits = config.get("from_logits", False)
        self.label_smoothing = config.get("label_smoothing", 0.0)
        self.ignore_class = config.get("ignore_class")
        self.gamma = config.get("gamma") if focal else None
        self.alpha = config.get("alpha") if focal else None
        self.balanced = config.get("apply_class_balancing", False)
        if not focal:
            self.family = "categorical" if link == "softmax" else "bernoulli"

    def __call__(self, target, prediction):
        target = self.match(target, prediction)
        logits = self.logits(prediction)
        if self.sparse:
            return self._sparse(target, logits)
        return self._dense(self._smoothed(target, logits), logits)

    def distillation(self, teacher, student):
        soft = Prediction(self.logits(teacher), self.link).probabilities
        return self._dense(soft, self.logits(student))

    def match(self, target, prediction):
        if self.sparse:
            return match_sparse(self.name, target, prediction)
        classes = self.link == "softmax"
        return match_dense(self.name, target, prediction, classes=classes)

    def mask(self, target, prediction):
        if self.ignore_class is None:
            return None
        return tf.not_equal(self.match(target, prediction), self.ignore_class)

    def log_partition_factor(self, target, prediction):
        if self.sparse or self.link == "sigmoid":
            return super().log_partition_factor(target, prediction)
        target = self.match(target, prediction)
        return tf.reduce_sum(self._smoothed(target, prediction.logits), axis=-1)

    def logits(self, prediction):
        """The logits of a `Prediction` under this loss' own link."""
        if prediction.link == self.link or self.from_logits:
            return prediction.logits
        return Prediction.from_values(prediction.values, self.link).logits

    def _smoothed(self, target, logits):
        target = tf.cast(target, logits.dtype)
        if not self.label_smoothing:
            return target
        classes = 2 if self.link == "sigmoid" else tf.shape(logits)[-1]
        share = self.label_smoothing / tf.cast(classes, logits.dtype)
        return target * (1.0 - self.label_smoothing) + share

    def _sparse(self, labels, logits):
        counted = None
        if self.ignore_class is not None:
            counted = tf.not_equal(labels, self.ignore_class)
            labels = tf.where(counted, labels, 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        if self.label_smoothing:
            even = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
            losses += self.label_smoothing * (even - losses)
        return losses if counted is None else tf.where(counted, losses, 0.0)

    def _dense(self, target, logits):
        if self.link == "softmax":
            logs = tf.nn.log_softmax(logits)
            terms = -target * logs
            if self.gamma is not None:
                terms *= self.alpha * _power(-tf.math.expm1(logs), self.gamma)
            return tf.reduce_sum(terms, axis=-1)
        terms = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        if self.gamma is not None:
            miss = target * tf.sigmoid(-logits) + (1.0 - target) * tf.sigmoid(logits)
            terms *= _power(miss, self.gamma)
        if self.balanced:
            terms *= target * self.alpha + (1.0 - target) * (1.0 - self.alpha)
        return tf.reduce_mean(terms, axis=-1)


@register
class SparseCategoricalCrossentropy(keras.losses.Loss):
    """Cross entropy with class numbers as targets, with label smoothing.

    Keras' own class of this name has no `label_smoothing`. With smoothing s and C
    classes an example's loss is -(1 - s) log p_g - s / C sum_k log p_k.

    >>> loss = SparseCategoricalCrossentropy(label_smoothing=0.1)
    >>> round(float(loss([1], [[0.25, 0.75]])), 4)
    0.3426

    Args:
        from_logits: bool, predictions are raw outputs.
        label_smoothing: float in [0, 1), s.
        ignore_class: int, positions of this class do not count.
        name: str.
        **kwargs: `reduction` and other arguments of `keras.losses.Loss`.
    """

    def __init__(
        self,
        from_logits=False,
        label_smoothing=0.0,
        ignore_class=None,
        name="sparse_categorical_crossentropy",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(
                "`label_smoothing` must be in [0, 1). "
                f"Received: label_smoothing={label_smoothing}"
            )
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        base = make(self)
        prediction = Prediction(y_pred)  # Raw if from_logits, else probabilities.
        losses = base(y_true, prediction)
        mask = base.mask(y_true, prediction)
        if mask is not None:
            losses._keras_mask = mask  # Both lines then divide by what counts.
        return losses

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "label_smoothing": self.label_smoothing,
            "ignore_class": self.ignore_class,
        }


class _FunctionLoss(keras.losses.Loss):
    """A user's callable `(y_true, y_pred)` as a Keras loss."""

    def __init__(self, function):
        name = getattr(function, "__name__", type(function).__name__)
        super().__init__(name=name.strip("<>"))  # "<lambda>" names no scope.
        self.function = function

    def call(self, y_true, y_pred):
        return self.function(y_true, y_pred)


_CROSS_ENTROPIES = {
    keras.losses.CategoricalCrossentropy: {"link": "softmax"},
    keras.losses.SparseCategoricalCrossentropy: {"link": "softmax", "sparse": True},
    SparseCategoricalCrossentropy: {"link": "softmax", "sparse": True},
    keras.losses.CategoricalFocalCrossentropy: {"link": "softmax", "focal": True},
    keras.losses.BinaryCrossentropy: {"link": "sigmoid"},
    keras.losses.BinaryFocalCrossentropy: {"link": "sigmoid", "focal": True},
}
_OTHERS = {
    keras.losses.MeanSquaredError: (OtherLoss, "gaussian"),
    keras.losses.Poisson: (PoissonLoss, "poisson"),
}
_FUNCTIONS = {
    keras.losses.mean_squared_error: keras.losses.MeanSquaredError,
    keras.losses.poisson: keras.losses.Poisson,
    keras.losses.categorical_crossentropy: keras.losses.CategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy: (
        keras.losses.SparseCategoricalCrossentropy
    ),
    keras.losses.categorical_focal_crossentropy: (
        keras.losses.CategoricalFocalCrossentropy
    ),
    keras.losses.binary_crossentropy: keras.losses.BinaryCrossentropy,
    keras.losses.binary_focal_crossentropy: keras.losses.BinaryFocalCrossentropy,
}


def make(identifier):
    """The base loss of anything that Keras accepts as a loss.

    Args:
        identifier: None, a name, a `keras.losses.Loss` or its class, a callable
            `(y_true, y_pred)` that returns one value per example or per element, or
            a `BaseLoss`.

    Returns:
        A `BaseLoss`, or None.

    Raises:
        ValueError: unknown name, or nothing that could be a loss.
    """
    if identifier is None or isinstance(identifier, BaseLoss):
        return identifier
    loss = identifier() if isinstance(identifier, type) else identifier
    loss = keras.losses.get(loss)
    if not isinstance(loss, keras.losses.Loss):
        function = loss
        loss = _FUNCTIONS[function]() if _is_known(function) else _FunctionLoss(loss)
    family = _CROSS_ENTROPIES.get(type(loss))
    if family is not None:
        return CrossEntropy(loss.get_config(), **family)
    kind, family = _OTHERS.get(type(loss), (OtherLoss, None))
    return kind(loss, family)


def _is_known(function):
    try:
        return function in _FUNCTIONS
    except TypeError:  # A callable that cannot be hashed is the user's own.
        return False


def _power(base, exponent):
    return tf.pow(tf.maximum(base, _SMALLEST_FACTOR), exponent)
