"""KL(teacher || student) at a temperature, for softmax and for several labels."""

import tensorflow as tf

from ensemble_heads.losses.ensemble_loss import finite_number
from ensemble_heads.predictions import Prediction


def divergence(base_loss, teacher, student, temperature=1.0):
    """T^2 KL of the student from the teacher, both softened by a temperature.

    With p = softmax(z / T), or sigmoid(z / T) label by label, an example's divergence
    is T^2 sum_c p_c log(p_c / q_c). Of several labels it is the mean over labels, as
    the binary cross entropy is. No gradient flows into the teacher. The factor T^2
    keeps gradients at the size that they have at T = 1 (Hinton et al. 2015).

    Args:
        base_loss: a `BaseLoss` that is a cross entropy; says what logits mean.
        teacher, student: `Prediction` of shapes that broadcast.
        temperature: float > 0, T.

    Returns:
        `[batch, …]` without the last axis, in nats, >= 0.
    """
    q = base_loss.logits(student) / temperature
    p = tf.cast(tf.stop_gradient(base_loss.logits(teacher)), q.dtype) / temperature
    if base_loss.link == "softmax":
        logs = tf.nn.log_softmax(p)
        terms = tf.exp(logs) * (logs - tf.nn.log_softmax(q))
        return temperature**2 * tf.reduce_sum(terms, axis=-1)
    sure = tf.math.log_sigmoid
    terms = tf.sigmoid(p) * (sure(p) - sure(q))
    terms += tf.sigmoid(-p) * (sure(-p) - sure(-q))
    return temperature**2 * tf.reduce_mean(terms, axis=-1)


def divergences(base_loss, teacher, heads, temperature=1.0):
    """`divergence` of every head from one teacher.

    Args:
        base_loss, temperature: as for `divergence`.
        teacher: `Prediction` `[batch, …]`.
        heads: `Prediction` `[batch, heads, …]`.

    Returns:
        `[batch, heads, …]` without the last axis.
    """
    logits = tf.expand_dims(base_loss.logits(teacher), axis=1)
    teacher = Prediction(logits, base_loss.link)
    return divergence(base_loss, teacher, heads, temperature)


def check_temperature(temperature):
    """The temperature as a float; ValueError if it is not above 0."""
    number = finite_number("temperature", temperature)
    if number <= 0:
        raise ValueError(
            f"`temperature` must be above 0. Received: temperature={temperature!r}"
        )
    return number


def require_cross_entropy(loss, output):
    """Checks that predictions can be softened by a temperature.

    Args:
        loss: `EnsembleLoss`, for the message.
        output: `HeadedOutput`.

    Raises:
        ValueError: the base loss is no cross entropy.
    """
    if output.base_loss.link is None:
        raise ValueError(
            f"`loss` must be a categorical or binary cross entropy under {loss!r}, "
            "which compares class probabilities; `eh.losses.CoDistillation` takes any. "
            f"Received: loss={output.base_loss.name} for output `{output.name}`"
        )
