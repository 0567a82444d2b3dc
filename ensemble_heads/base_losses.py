"""The base loss l(g, p): what Keras accepts as a loss, per example and on logits.

An ensemble loss needs l for every head and for the ensemble, without reduction, and
also l(p_ens, p_i), where a prediction takes the place of the ground truth. Cross
entropies are computed here from logits, so that they stay finite for heads that are
entirely sure; every other loss sees the prediction in the single model's form.

Label smoothing belongs to the ground truth: it is left out of l(p_ens, p_i).
"""

import tensorflow as tf

from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import Prediction
from ensemble_heads.target_shapes import match_dense, match_sparse

# As in Keras, focal factors are kept from 0, where powers below 1 have no gradient.
_SMALLEST_FACTOR = 1e-7


class BaseLoss:
    """l(g, p) of one output.

    Attributes:
        name: str, for messages.
        link: `"softmax"` or `"sigmoid"` if the loss is a cross entropy, else None.
        from_logits: bool, whether it expects raw outputs.
        reduction: `"mean"`, `"sum"` or `"mean_with_sample_weight"` over the batch.
    """

    link = None
    from_logits = False

    def __init__(self, name, reduction):
        self.name = name
        known = ("sum", "mean_with_sample_weight")
        self.reduction = reduction if reduction in known else "mean"

    def __call__(self, target, prediction):
        """The loss of every example (or position), not reduced.

        Args:
            target: tensor, the ground truth g.
            prediction: `Prediction` `[batch, …]`.

        Returns:
            `[batch, …]` without the last axis of the prediction, in nats for cross
            entropies.

        Raises:
            ValueError: target and prediction have shapes that do not fit.
        """
        raise NotImplementedError

    def distillation(self, teacher, student):
        """l(teacher, student) of two `Prediction` objects; arguments as in a call."""
        raise NotImplementedError

    def check_distillation(self, target, prediction):
        """Raises ValueError if no prediction can take the place of such a target."""

    def match(self, target, prediction):
        """The target in the shape this loss works on; ValueError if it has none."""
        return match_dense(self.name, target, prediction)

    def mask(self, target, prediction):
        """Bool tensor of the positions that count, or None for all."""
        return None


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

    def __call__(self, target, prediction):
        target = self.match(target, prediction)
        logits = self._logits(prediction)
        if self.sparse:
            return self._sparse(target, logits)
        target = tf.cast(target, logits.dtype)
        if self.label_smoothing:
            classes = 2 if self.link == "sigmoid" else tf.shape(logits)[-1]
            share = self.label_smoothing / tf.cast(classes, logits.dtype)
            target = target * (1.0 - self.label_smoothing) + share
        return self._dense(target, logits)

    def distillation(self, teacher, student):
        soft = Prediction(self._logits(teacher), self.link).probabilities
        return self._dense(soft, self._logits(student))

    def match(self, target, prediction):
        if self.sparse:
            return match_sparse(self.name, target, prediction)
        classes = self.link == "softmax"
        return match_dense(self.name, target, prediction, classes=classes)

    def mask(self, target, prediction):
        if self.ignore_class is None:
            return None
        return tf.not_equal(self.match(target, prediction), self.ignore_class)

    def _logits(self, prediction):
        if prediction.link == self.link or self.from_logits:
            return prediction.logits
        return Prediction.from_values(prediction.values, self.link).logits

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


class OtherLoss(BaseLoss):
    """Any other Keras loss or callable, on the single model's form of a prediction.

    Args:
        loss: `keras.losses.Loss`. It is not changed.
    """

    def __init__(self, loss):
        super().__init__(loss.name or type(loss).__name__, loss.reduction)
        # A shallow copy by hand: `copy.copy` saves and loads Keras 3 objects.
        self._loss = object.__new__(type(loss))
        vars(self._loss).update(vars(loss), reduction="none")

    def __call__(self, target, prediction):
        values = prediction.values
        try:
            losses = self._loss(self.match(target, prediction), values)
        except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(
                f"`loss` {self.name} does not fit targets of shape "
                f"{tuple(target.shape)} and predictions of shape "
                f"{tuple(values.shape)}. Received: {type(error).__name__}: {error}"
            ) from error
        return self._per_position(losses, values)

    def distillation(self, teacher, student):
        return self(teacher.values, student)

    def check_distillation(self, target, prediction):
        expected, received = (
            prediction.values.shape,
            self.match(target, prediction).shape,
        )
        if not received.is_compatible_with(expected):
            raise ValueError(
                f"`loss` {self.name} must take targets of the shape of a prediction "
                "to be distilled: the ensemble's prediction takes the place of the "
                "target. For class numbers, pass "
                'loss="sparse_categorical_crossentropy", or write the loss for '
                f"one-hot targets. Received: targets of shape {tuple(received)} for "
                f"predictions of shape {tuple(expected)}"
            )

    def match(self, target, prediction):
        # A user's own function may take targets of any shape; Keras' losses would
        # broadcast a shape that does not fit without a word.
        code = getattr(self._loss, "function", type(self._loss))
        known = getattr(code, "__module__", None) or ""
        check = known.partition(".")[0] == "keras"
        return match_dense(self.name, target, prediction, check=check)

    def _per_position(self, losses, values):
        rank = losses.shape.rank
        if rank == 0:
            raise ValueError(
                f"`loss` {self.name} must return one value per example, of shape "
                "[batch], so that examples can be weighted. Received: a scalar for "
                f"predictions of shape {tuple(values.shape)}"
            )
        if rank is not None and rank == values.shape.rank and rank > 1:
            return tf.reduce_mean(losses, axis=-1)
        return losses


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
_FUNCTIONS = {
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
    if family is None:
        return OtherLoss(loss)
    return CrossEntropy(loss.get_config(), **family)


def _is_known(function):
    try:
        return function in _FUNCTIONS
    except TypeError:  # A callable that cannot be hashed is the user's own.
        return False


def _power(base, exponent):
    return tf.pow(tf.maximum(base, _SMALLEST_FACTOR), exponent)
