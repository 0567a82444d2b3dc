"""An ensemble's loss of given logits in value and gradient, for tests of losses."""

import numpy as np
import numpy.testing as npt
import tensorflow as tf

from ensemble_heads import base_losses, predictions
from tests import numpy_losses

BATCH, HEADS, CLASSES = 4, 3, 4


def value_and_gradient(
    loss, base, target, z, link, of="logits", mask=None, step=None, observed=None
):
    """Per-example losses and the gradient of their sum by the logits.

    Args:
        loss: `EnsembleLoss`.
        base: what Keras accepts as a loss.
        target: tensor.
        z: `[batch, heads, …]`, the heads' logits.
        link: str, what they mean.
        of: `"logits"` or `"probabilities"`, of which the ensemble is the mean.
        mask, step, observed: as in `EnsemblePrediction`.
    """
    z = tf.constant(z)
    average = getattr(predictions, f"mean_of_{of}")
    with tf.GradientTape() as tape:
        tape.watch(z)
        heads = predictions.Prediction(z, link)
        ensemble = average(heads.logits, link)
        both = predictions.EnsemblePrediction(heads, ensemble)
        both.step, both.observed = step, observed
        both.mask = None if mask is None else tf.constant(mask)
        values = loss(base_losses.make(base), target, both)
        total = tf.reduce_sum(values)
    return values, tape.gradient(total, z)


def assert_equals_numpy(got, function, z):
    """Compares with a NumPy function of float64 logits and its numerical gradient."""
    # Keras 3 computes its own losses in float32 whatever it is given.
    npt.assert_allclose(got[0], function(z), rtol=3e-5, atol=1e-6)
    expected = numpy_losses.gradient(function, z)
    npt.assert_allclose(got[1], expected, rtol=1e-4, atol=3e-5)


def draw_logits(scale=1.5):
    return np.random.normal(scale=scale, size=(BATCH, HEADS, CLASSES))


def draw_target(kind):
    """Targets of a kind: `one_hot`, `multi_hot`, `real` or `counts`."""
    return {
        "one_hot": np.eye(CLASSES)[np.random.randint(0, CLASSES, BATCH)],
        "multi_hot": np.random.randint(0, 2, (BATCH, CLASSES)).astype(float),
        "real": np.random.normal(size=(BATCH, CLASSES)),
        "counts": np.random.poisson(2.0, size=(BATCH, CLASSES)).astype(float),
    }[kind]


# link: (base loss, kind of target, oracle)
CROSS_ENTROPIES = {
    "softmax": ("categorical_crossentropy", "one_hot", numpy_losses.categorical),
    "sigmoid": ("binary_crossentropy", "multi_hot", numpy_losses.binary),
}
# Heads as sure as logits can be: all right, all wrong, and apart.
SATURATED = np.array(
    [
        [[1e4, -1e4], [1e4, -1e4]],
        [[-1e4, 1e4], [-1e4, 1e4]],
        [[1e4, -1e4], [-1e4, 1e4]],
        [[0.0, 0.0], [1e4, -1e4]],
    ]
)
SATURATED_TARGET = np.eye(2)[np.zeros(4, int)]
