"""Heads taught by a gated ensemble (ONE), by each other, or by a trained model."""

import math

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import loss_checks, numpy_losses, small_models
from tests.loss_checks import HEADS

SPARSE = "sparse_categorical_crossentropy"
links = pytest.mark.parametrize("link", loss_checks.CROSS_ENTROPIES)
temperatures = pytest.mark.parametrize("temperature", [1.0, 3.0])


def losses_of_heads(plain, target, z, link):
    p = numpy_losses.LINKS[link](z)
    return sum(plain(target, p[:, i]) for i in range(z.shape[1]))


# ---- ONE


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.5])
@temperatures
@links
def test_on_the_fly_equals_numpy(link, temperature, weight):
    """Equation 6; the teacher of the KL divergence is a constant."""
    base, kind, plain = loss_checks.CROSS_ENTROPIES[link]
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    loss = eh.losses.OnTheFly(temperature, weight)
    got = loss_checks.value_and_gradient(loss, base, target, z, link)
    teacher = z.mean(1)

    def function(z):
        own = losses_of_heads(plain, target, z, link)
        whole = plain(target, numpy_losses.combine(z, link, "logits"))
        apart = numpy_losses.softened_divergence(teacher, z, link, temperature)
        return own + whole + weight * apart

    loss_checks.assert_equals_numpy(got, function, z)


def test_temperature_keeps_the_size_of_gradients():
    """For T beyond the logits' range, T^2 KL has the gradient (z_i - z_ens) / C."""
    z, target = loss_checks.draw_logits(0.1), loss_checks.draw_target("one_hot")
    z -= z.mean(-1, keepdims=True)
    with_teacher, without = (
        loss_checks.value_and_gradient(
            eh.losses.OnTheFly(100.0, weight),
            "categorical_crossentropy",
            target,
            z,
            "softmax",
        )[1]
        for weight in (1.0, 0.0)
    )
    expected = (z - z.mean(1, keepdims=True)) / loss_checks.CLASSES
    npt.assert_allclose(with_teacher - without, expected, atol=1e-4)


def test_ramp_up_follows_the_steps():
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("one_hot")

    def value(loss, step=None):
        base = "categorical_crossentropy"
        return np.array(
            loss_checks.value_and_gradient(loss, base, target, z, "softmax", step=step)[
                0
            ]
        )

    plain = value(eh.losses.OnTheFly(distillation_weight=0.0))
    whole = value(eh.losses.OnTheFly(distillation_weight=2.0)) - plain
    loss = eh.losses.OnTheFly(distillation_weight=2.0, ramp_up_steps=10)
    for step, share in ((0, math.exp(-5)), (5, math.exp(-1.25)), (10, 1), (99, 1)):
        got = value(loss, tf.constant(step, tf.int64)) - plain
        npt.assert_allclose(got, share * whole, rtol=1e-4, atol=1e-5)
    npt.assert_allclose(value(loss) - plain, whole, rtol=1e-6)  # no step known


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
def test_ramp_up_in_training_counts_the_optimizers_steps(settings):
    model = small_models.dense_model(3, ensembler=eh.ensemblers.Mean("logits"))
    x, y = small_models.classification_data(8)
    terms = {}
    for weight in (0.0, 1.0):
        model.compile(
            "sgd", SPARSE, ensemble_loss=eh.losses.OnTheFly(distillation_weight=weight)
        )
        terms[weight] = model.evaluate(x, y, verbose=0)
    still = keras.optimizers.SGD(0.0)
    loss = eh.losses.OnTheFly(ramp_up_steps=4)
    model.compile(still, SPARSE, ensemble_loss=loss, **settings)
    history = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["loss"]
    shares = np.exp(-5 * (1 - np.minimum(np.arange(6) / 4, 1)) ** 2)
    expected = terms[0.0] + shares * (terms[1.0] - terms[0.0])
    npt.assert_allclose(history, expected, rtol=1e-5)
    npt.assert_allclose(model.evaluate(x, y, verbose=0), terms[1.0], rtol=1e-5)


# ---- Mutual learning


@temperatures
@links
def test_mutual_learning_equals_numpy(link, temperature):
    base, kind, plain = loss_checks.CROSS_ENTROPIES[link]
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    loss = eh.losses.MutualLearning(0.7, temperature)
    got = loss_checks.value_and_gradient(loss, base, target, z, link)
    teachers = z.copy()

    def function(z):
        pairs = sum(
            numpy_losses.softened_divergence(
                teachers[:, j], np.delete(z, j, 1), link, temperature
            )
            for j in range(HEADS)
        )
        own = losses_of_heads(plain, target, z, link)
        return own + 0.7 / (HEADS - 1) * pairs

    loss_checks.assert_equals_numpy(got, function, z)


# ---- Distillation


@temperatures
@links
def test_distillation_equals_numpy(link, temperature):
    base, kind, plain = loss_checks.CROSS_ENTROPIES[link]
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    teacher = np.random.normal(size=z[:, 0].shape)
    loss = eh.losses.Distillation(None, temperature, 0.7)
    observed = numpy_losses.LINKS[link](teacher)
    got = loss_checks.value_and_gradient(
        loss, base, target, z, link, observed=tf.constant(observed)
    )

    def function(z):
        apart = numpy_losses.softened_divergence(teacher, z, link, temperature)
        return losses_of_heads(plain, target, z, link) + 0.7 * apart

    loss_checks.assert_equals_numpy(got, function, z)


def single(classes=small_models.CLASSES, activation="softmax"):
    inputs = keras.Input((small_models.FEATURES,), name="x")
    return keras.Model(inputs, keras.layers.Dense(classes, activation)(inputs))


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
@pytest.mark.parametrize("raw", [False, True])
def test_heads_come_to_predict_what_the_teacher_does(raw, settings):
    teacher = single(activation=None if raw else "softmax")
    before = teacher.get_weights()
    model = small_models.dense_model(2, "linear" if raw else "softmax")
    x, y = small_models.classification_data()
    base = keras.losses.SparseCategoricalCrossentropy(from_logits=raw)
    loss = eh.losses.Distillation(teacher, 2.0, distillation_weight=50.0)
    optimizer = keras.optimizers.Adam(0.03)
    model.compile(optimizer, base, ensemble_loss=loss, **settings)
    assert not set(map(id, teacher.weights)) & set(map(id, model.weights))

    def distance():
        def probabilities(values):
            values = np.array(values, "float64")
            return numpy_losses.softmax(values) if raw else values

        heads = probabilities(model.head_predictions(x))
        return np.abs(heads - probabilities(teacher(x))[:, None]).mean()

    first = distance()
    model.fit(x, y, epochs=120, verbose=0)
    assert distance() < 0.35 * first
    for now, then in zip(teacher.get_weights(), before):
        npt.assert_array_equal(now, then)


def test_a_file_does_not_hold_the_teacher(tmp_path):
    model = small_models.dense_model(2)
    x, y = small_models.classification_data()
    teacher = small_models.dense_model(3)  # an ensemble may teach, too
    model.compile("adam", SPARSE, ensemble_loss=eh.losses.Distillation(teacher))
    model.fit(x, y, verbose=0)
    expected = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again(x), model(x), rtol=1e-6)
    with pytest.raises(ValueError, match="`teacher` must be given again after loading"):
        again.fit(x, y, verbose=0)
    again.compile("adam", SPARSE, ensemble_loss=eh.losses.Distillation(teacher))
    npt.assert_allclose(again.evaluate(x, y, verbose=0), expected, rtol=1e-6)


# ---- What all of them share


ALL = [
    eh.losses.OnTheFly(),
    eh.losses.MutualLearning(),
    eh.losses.Distillation(None),
]
every_loss = pytest.mark.parametrize("loss", ALL, ids=lambda loss: type(loss).__name__)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@links
@every_loss
def test_saturated_logits_give_finite_numbers(loss, link, dtype):
    got = loss_checks.value_and_gradient(
        loss,
        loss_checks.CROSS_ENTROPIES[link][0],
        loss_checks.SATURATED_TARGET,
        tf.cast(loss_checks.SATURATED, dtype),
        link,
        observed=loss_checks.SATURATED_TARGET,
    )
    assert all(np.isfinite(tf.cast(part, tf.float32)).all() for part in got)


@every_loss
def test_positions_are_kept(loss):
    z = np.random.normal(size=(2, 3, 5, 4)).astype("float32")
    labels = np.random.randint(0, 4, (2, 5))
    teacher = numpy_losses.softmax(np.random.normal(size=(2, 5, 4)))
    values, _ = loss_checks.value_and_gradient(
        loss, SPARSE, labels, z, "softmax", observed=tf.constant(teacher)
    )
    assert values.shape == (2, 5)
    one, _ = loss_checks.value_and_gradient(
        loss,
        SPARSE,
        labels[:, 2],
        z[:, :, 2],
        "softmax",
        observed=tf.constant(teacher[:, 2]),
    )
    npt.assert_allclose(values[:, 2], one, rtol=1e-5)


@every_loss
def test_losses_that_compare_no_probabilities(loss):
    model = small_models.dense_model(2, "linear")
    with pytest.raises(ValueError, match="categorical or binary.*mean_squared_error"):
        model.compile("sgd", "mse", ensemble_loss=loss)


def test_arguments():
    for kind in (eh.losses.OnTheFly, eh.losses.MutualLearning):
        for temperature in (0.0, -1.0, math.inf, "hot"):
            with pytest.raises(ValueError, match="`temperature` must be"):
                kind(temperature=temperature)
    with pytest.raises(ValueError, match="`distillation_weight` must be at least 0"):
        eh.losses.OnTheFly(distillation_weight=-1)
    with pytest.raises(ValueError, match="`ramp_up_steps` must be an integer"):
        eh.losses.OnTheFly(ramp_up_steps=0)
    with pytest.raises(ValueError, match="`weight` must be at least 0"):
        eh.losses.MutualLearning(-1)
    with pytest.raises(ValueError, match="`teacher` must be a Keras model"):
        eh.losses.Distillation("resnet50")
    model = small_models.dense_model(1)
    with pytest.raises(ValueError, match="`num_heads` must be at least 2"):
        model.compile("sgd", SPARSE, ensemble_loss=eh.losses.MutualLearning())


@pytest.mark.parametrize("raw", [False, True])
def test_a_teacher_in_another_form(raw):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=raw)
    outputs = single(activation="linear" if raw else "softmax")
    model = eh.multi_head(outputs, outputs.input.name, num_heads=2)
    teacher = single(activation="softmax" if raw else "linear")
    with pytest.raises(ValueError, match="`teacher` must predict in the form"):
        model.compile("sgd", loss, ensemble_loss=eh.losses.Distillation(teacher))


def test_a_teacher_with_other_classes():
    model = small_models.dense_model(2)
    x, y = small_models.classification_data()
    message = r"`teacher` must predict.*\(None, 4\).*the same classes.*\(None, 5\)"
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", SPARSE, ensemble_loss=eh.losses.Distillation(single(5)))
    unknown_until_called = small_models.dense_model(2, units=5)
    loss = eh.losses.Distillation(unknown_until_called)
    model.compile("sgd", SPARSE, ensemble_loss=loss)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, verbose=0)
