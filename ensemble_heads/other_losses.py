"""Base losses that are no cross entropies: they see what the single model predicts."""

import tensorflow as tf

from ensemble_heads.base_loss import BaseLoss
from ensemble_heads.target_shapes import match_dense, match_sparse

# Keras 3's losses on class numbers that are no cross entropies.
_ON_CLASS_NUMBERS = ("CategoricalGeneralizedCrossEntropy",)
# Those whose targets have a shape of their own: sequences of labels, class numbers.
_ON_OTHER_TARGETS = ("CTC", "Circle")
_OVER_THE_BATCH = ("Circle",)


class OtherLoss(BaseLoss):
    """Any other Keras loss or callable, on the single model's form of a prediction.

    Args:
        loss: `keras.losses.Loss`. It is not changed. One with a method
            `counted_positions`, targets -> bool `[batch, …]`, says what counts.
        family: as in `BaseLoss`.
    """

    def __init__(self, loss, family=None):
        super().__init__(loss.name or type(loss).__name__, loss.reduction)
        self.family = family
        # A shallow copy by hand: `copy.copy` saves and loads Keras 3 objects.
        self._loss = object.__new__(type(loss))
        vars(self._loss).update(vars(loss), reduction="none")
        # A user's own function may do what it likes; Keras' losses are known.
        code = getattr(self._loss, "function", type(self._loss))
        known = getattr(code, "__module__", None) or ""
        self._is_of_keras = known.partition(".")[0] == "keras"
        self.by_example = self._is_of_keras and not self._is_one_of(_OVER_THE_BATCH)

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
        if self._is_one_of(_ON_CLASS_NUMBERS):
            return match_sparse(self.name, target, prediction)
        # A user's own function may take targets of any shape; Keras' losses would
        # broadcast a shape that does not fit without a word.
        check = self._is_of_keras and not self._is_one_of(_ON_OTHER_TARGETS)
        return match_dense(self.name, target, prediction, check=check)

    def mask(self, target, prediction):
        # A loss can tell what counts; Keras' own way, a mask on its result, would
        # have to be read from another computation of it.
        own = getattr(self._loss, "counted_positions", None)
        return None if own is None else own(target)

    def _is_one_of(self, names):
        return self._is_of_keras and type(self._loss).__name__ in names

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


class PoissonLoss(OtherLoss):
    """exp(z) - g z of the log rates z, where these are known; else Keras' own loss."""

    def __call__(self, target, prediction):
        if prediction.link != "exponential":
            return super().__call__(target, prediction)
        logits = prediction.logits
        target = tf.cast(self.match(target, prediction), logits.dtype)
        return tf.reduce_mean(tf.exp(logits) - target * logits, axis=-1)
