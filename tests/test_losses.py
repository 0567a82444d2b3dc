"""Both ensemble losses over every base loss, against NumPy float64."""

import functools
import math
import warnings

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads import base_losses, losses, predictions
from ensemble_heads.keras_api import keras
from tests import numpy_losses as oracle

BATCH, HEADS, CLASSES = 4, 3, 4


def callable_per_element(y_true, y_pred):
    return tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred) * CLASSES


def callable_per_example(y_true, y_pred):
    return tf.reduce_sum(tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


class OwnLoss(keras.losses.Loss):
    """A user's loss object with another reduction."""

    def call(self, y_true, y_pred):
        return tf.reduce_sum(tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


def smoothed(one_hot, amount, classes=CLASSES):
    return one_hot * (1 - amount) + amount / classes


# name: (Keras loss, link, kind of target, oracle l, smoothing of the ground truth)
K = keras.losses
BASE_LOSSES = {
    "categorical": (
        "categorical_crossentropy",
        "softmax",
        "one_hot",
        oracle.categorical,
        0,
    ),
    "categorical_smoothed": (
        K.CategoricalCrossentropy(label_smoothing=0.2),
        "softmax",
        "one_hot",
        oracle.categorical,
        0.2,
    ),
    "categorical_logits": (
        K.CategoricalCrossentropy(from_logits=True),
        "softmax",
        "one_hot",
        oracle.categorical,
        0,
    ),
    "categorical_focal": (
        K.CategoricalFocalCrossentropy(alpha=0.3, gamma=1.5),
        "softmax",
        "one_hot",
        functools.partial(oracle.categorical, alpha=0.3, gamma=1.5),
        0,
    ),
    "sparse": (
        "sparse_categorical_crossentropy",
        "softmax",
        "sparse",
        oracle.categorical,
        0,
    ),
    "sparse_object": (
        K.SparseCategoricalCrossentropy(),
        "softmax",
        "sparse",
        oracle.categorical,
        0,
    ),
    "sparse_smoothed": (
        losses.SparseCategoricalCrossentropy(label_smoothing=0.2),
        "softmax",
        "sparse",
        oracle.categorical,
        0.2,
    ),
    "binary": ("binary_crossentropy", "sigmoid", "multi_hot", oracle.binary, 0),
    "binary_smoothed": (
        K.BinaryCrossentropy(label_smoothing=0.2),
        "sigmoid",
        "multi_hot",
        oracle.binary,
        0.4,  # Keras moves both classes by half of 0.2, as two classes share it.
    ),
    "binary_focal": (
        K.BinaryFocalCrossentropy(gamma=1.5),
        "sigmoid",
        "multi_hot",
        functools.partial(oracle.binary, gamma=1.5),
        0,
    ),
    "binary_balanced": (
        K.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.3, gamma=2.0),
        "sigmoid",
        "multi_hot",
        functools.partial(oracle.binary, gamma=2.0, alpha=0.3),
        0,
    ),
    "squared": ("mse", "linear", "real", oracle.squared, 0),
    "squared_object": (K.MeanSquaredError(), "linear", "real", oracle.squared, 0),
    "squared_of_probabilities": ("mse", "softmax", "one_hot", oracle.squared, 0),
    "per_element": (callable_per_element, "linear", "real", oracle.absolute, 0),
    "per_example": (callable_per_example, "linear", "real", oracle.absolute, 0),
    "object": (OwnLoss(reduction="sum"), "linear", "real", oracle.absolute, 0),
    # The link does not match the loss: it is computed on probabilities.
    "binary_of_softmax": (
        "binary_crossentropy",
        "softmax",
        "one_hot",
        oracle.binary,
        0,
    ),
}
ENSEMBLE_LOSSES = [
    (losses.Ensembling(weight), oracle.ensembling, weight)
    for weight in (-1.5, 0.0, 0.4, 1.0)
] + [
    (losses.CoDistillation(weight), oracle.codistillation, weight)
    for weight in (0.0, 3.0)
]


def draw_target(kind):
    labels = np.random.randint(0, CLASSES, BATCH)
    if kind == "sparse":
        return labels, np.eye(CLASSES)[labels]
    target = {
        "one_hot": np.eye(CLASSES)[labels],
        "multi_hot": np.random.randint(0, 2, (BATCH, CLASSES)).astype(float),
        "real": np.random.normal(size=(BATCH, CLASSES)),
    }[kind]
    return target, target


def predict(z, link, of="probabilities"):
    average = getattr(predictions, f"mean_of_{of}")
    heads = predictions.Prediction(z, link)
    ensemble = average(heads.logits, link)
    return predictions.EnsemblePrediction(heads, ensemble)


def value_and_gradient(loss, base, target, z, link, of="probabilities"):
    z = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(z)
        values = loss(base_losses.make(base), target, predict(z, link, of))
        total = tf.reduce_sum(values)
    return values, tape.gradient(total, z)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("name", BASE_LOSSES)
def test_value_and_gradient_equal_numpy(name, of):
    base, link, kind, plain, smoothing = BASE_LOSSES[name]
    z = np.random.normal(scale=1.5, size=(BATCH, HEADS, CLASSES))
    target, truth = draw_target(kind)
    if kind in ("one_hot", "sparse"):
        truth = smoothed(truth, smoothing)
    elif kind == "multi_hot":
        truth = truth * (1 - smoothing / 2) + smoothing / 4
    for loss, combine, weight in ENSEMBLE_LOSSES:
        values, gradient = value_and_gradient(loss, base, target, z, link, of)
        options = {"link": link, "weight": weight, "of": of}
        if combine is oracle.codistillation:
            options["teacher"] = oracle.combine(z, link, of)  # no gradient into it
        compute = functools.partial(combine, plain, truth, **options)
        # Keras 3 computes its losses in float32 whatever it is given.
        npt.assert_allclose(values, compute(z), rtol=3e-5, atol=1e-6)
        expected = oracle.gradient(compute, z)
        npt.assert_allclose(gradient, expected, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("name", BASE_LOSSES)
def test_single_prediction_equals_keras_own_loss(name):
    base, link, kind, _, _ = BASE_LOSSES[name]
    target, _ = draw_target(kind)
    prediction = predictions.Prediction(
        np.random.normal(size=(BATCH, CLASSES)).astype("float32"), link
    )
    raw = name == "categorical_logits"
    values = prediction.logits if raw else prediction.values
    own = tf.reduce_mean(base_losses.make(base)(target, prediction))
    single = keras.Sequential([keras.Input((CLASSES,))])
    single.compile(loss=base)
    theirs = single.evaluate(np.array(values), target, verbose=0)
    scale = BATCH if name == "object" else 1  # reduction="sum"
    npt.assert_allclose(own * scale, theirs, rtol=2e-5)


# ---- Appendix A.1 and the other claims of section 3


@pytest.mark.parametrize("link", ["linear", "softmax", "sigmoid"])
@pytest.mark.parametrize("weight", [-1.5, 0.0, 0.3, 1.0])
def test_appendix_a1_in_value_and_gradient(link, weight):
    """Equation 2 equals equation 3 at mu = 1 - lambda, stop-gradient or not.

    The stop-gradient leaves out 2 sum_i (<p> - p_i) d<p>, which is 0 because <p> is
    the mean: for squared error it changes nothing, in any parameter.
    """
    z = np.random.normal(size=(BATCH, HEADS, CLASSES))
    target = np.random.normal(size=(BATCH, CLASSES))
    first = value_and_gradient(losses.Ensembling(weight), squared, target, z, link)
    distilled = losses.CoDistillation(1 - weight)
    second = value_and_gradient(distilled, squared, target, z, link)
    npt.assert_allclose(first[0], second[0], rtol=1e-12)
    npt.assert_allclose(first[1], second[1], rtol=1e-9, atol=1e-13)
    # The gradient with p_ens not stopped, as the appendix writes the loss.
    unstopped = functools.partial(
        oracle.codistillation, oracle.squared, target, link=link, weight=1 - weight
    )
    npt.assert_allclose(second[1], oracle.gradient(unstopped, z), atol=1e-7)


def squared(y_true, y_pred):
    """Squared error that keeps float64, which Keras 3's own does not."""
    return tf.reduce_mean(tf.square(tf.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


@pytest.fixture(autouse=True)
def float64_losses():
    """Lets Keras 3 compute a user's callable in the precision of its arguments."""
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx(before)


def test_for_cross_entropy_the_two_losses_differ():
    z = np.random.normal(size=(BATCH, HEADS, CLASSES))
    target = np.eye(CLASSES)[np.random.randint(0, CLASSES, BATCH)]
    base = "categorical_crossentropy"
    first, _ = value_and_gradient(losses.Ensembling(-1.5), base, target, z, "softmax")
    other = losses.CoDistillation(2.5)
    second, _ = value_and_gradient(other, base, target, z, "softmax")
    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("base", ["categorical_crossentropy", "mse"])
def test_identical_heads_make_the_loss_independent_of_lambda(base):
    z = np.repeat(np.random.normal(size=(BATCH, 1, CLASSES)), HEADS, axis=1)
    target = np.eye(CLASSES)[np.random.randint(0, CLASSES, BATCH)]
    results = [
        value_and_gradient(losses.Ensembling(w), base, target, z, "softmax")
        for w in (-1.5, 0.0, 0.7)
    ]
    for values, gradient in results[1:]:
        npt.assert_allclose(values, results[0][0], rtol=1e-5)
        # What they share, the trunk, sees the sum over the heads.
        npt.assert_allclose(
            tf.reduce_sum(gradient, 1), tf.reduce_sum(results[0][1], 1), atol=1e-6
        )


def test_no_gradient_flows_into_the_teacher():
    """The gradient is that of a teacher given as a constant, to every head."""
    z = np.random.normal(size=(BATCH, HEADS, CLASSES))
    target = np.eye(CLASSES)[np.random.randint(0, CLASSES, BATCH)]
    base = base_losses.make("categorical_crossentropy")
    _, gradient = value_and_gradient(
        losses.CoDistillation(3.0), base, target, z, "softmax"
    )
    _, alone = value_and_gradient(
        losses.CoDistillation(0.0), base, target, z, "softmax"
    )
    p = oracle.softmax(z)
    by_hand = 3.0 * (p - p.mean(1, keepdims=True))  # d CE(t, p_i) / d z_i = p_i - t
    npt.assert_allclose(gradient - alone, by_hand, atol=1e-10)


def test_label_smoothing_is_not_applied_to_the_teacher():
    z = np.random.normal(size=(BATCH, HEADS, CLASSES))
    labels = np.random.randint(0, CLASSES, BATCH)
    plain = losses.SparseCategoricalCrossentropy()
    smooth = losses.SparseCategoricalCrossentropy(label_smoothing=0.3)
    parts = []
    for base in (plain, smooth):
        with_teacher = value_and_gradient(
            losses.CoDistillation(2.0), base, labels, z, "softmax"
        )
        without = value_and_gradient(
            losses.CoDistillation(0.0), base, labels, z, "softmax"
        )
        parts.append(with_teacher[0] - without[0])
    npt.assert_allclose(parts[0], parts[1], rtol=1e-10)


# ---- Numbers


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    "base, link",
    [
        ("sparse_categorical_crossentropy", "softmax"),
        ("categorical_crossentropy", "softmax"),
        (keras.losses.CategoricalFocalCrossentropy(gamma=0.5), "softmax"),
        ("binary_crossentropy", "sigmoid"),
        (keras.losses.BinaryFocalCrossentropy(gamma=0.5), "sigmoid"),
    ],
)
@pytest.mark.parametrize("of", ["probabilities", "logits"])
@pytest.mark.parametrize("loss", [losses.Ensembling(-1.5), losses.CoDistillation(3.0)])
def test_saturated_logits_give_finite_losses_and_gradients(dtype, base, link, of, loss):
    rows = [[[1e4, -1e4], [1e4, -1e4]], [[1e4, -1e4], [-1e4, 1e4]]]
    z = np.array(rows + [[[-1e4, 1e4], [-1e4, 1e4]], [[1e4, -1e4], [0, 0]]])
    sparse = base == "sparse_categorical_crossentropy"
    target = np.zeros(4, int) if sparse else np.eye(2)[np.zeros(4, int)]
    values, gradient = value_and_gradient(
        loss, base, target, tf.cast(z, dtype), link, of
    )
    assert np.isfinite(values).all()
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()


def test_saturated_values_are_exact():
    z = tf.constant([[[1e4, -1e4], [-1e4, 1e4]]])
    values, gradient = value_and_gradient(
        losses.Ensembling(0.5), "sparse_categorical_crossentropy", [0], z, "softmax"
    )
    # 0.5 (0 + 2e4) + 2 * 0.5 * log 2: the second head is wrong by all of 2e4.
    npt.assert_allclose(values, [1e4 + math.log(2)], rtol=1e-6)
    npt.assert_allclose(gradient[0, 1], [-0.5, 0.5], atol=1e-6)


def test_positions_are_kept():
    z = np.random.normal(size=(2, 3, 5, 4)).astype("float32")  # five positions
    labels = np.random.randint(0, 4, (2, 5))
    for loss in (losses.Ensembling(0.5), losses.CoDistillation(1.0)):
        values, _ = value_and_gradient(
            loss, "sparse_categorical_crossentropy", labels, z, "softmax"
        )
        one, _ = value_and_gradient(
            loss,
            "sparse_categorical_crossentropy",
            labels[:, 2],
            z[:, :, 2],
            "softmax",
        )
        assert values.shape == (2, 5)
        npt.assert_allclose(values[:, 2], one, rtol=1e-5)


# ---- Arguments


def test_weights_out_of_range():
    with pytest.raises(ValueError, match="`distillation_weight` must be at least 0"):
        losses.CoDistillation(-1.0)
    with pytest.raises(ValueError, match="`ensemble_weight` must be a finite"):
        losses.Ensembling(math.nan)
    with pytest.raises(ValueError, match="`ensemble_loss` must be an object of"):
        losses.get("codistillation")


def test_lambda_above_one_warns_with_the_theorem():
    with pytest.warns(UserWarning, match="theorem 1 of Webb et al.*ensemble_weight=1"):
        losses.Ensembling(1.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses.Ensembling(1.0)
        losses.Ensembling(-3.0)


def test_above_one_the_loss_has_no_lower_bound():
    """What the warning says: the loss falls while the ensemble gets worse."""
    with pytest.warns(UserWarning):
        loss = losses.Ensembling(1.5)
    totals, own = [], []
    for size in (10.0, 100.0, 1000.0):
        # The heads' mean is wrong by `size`, one head alone by size squared.
        z = np.array([[[size**2, 0.0], [-(size**2) + 2 * size, 0.0]]])
        base = base_losses.make("sparse_categorical_crossentropy")
        prediction = predict(z, "softmax", "logits")
        totals.append(float(loss(base, [1], prediction)[0]))
        own.append(float(base([1], prediction.ensemble)[0]))
    assert totals[0] > totals[1] > totals[2] and own[0] < own[1] < own[2]
