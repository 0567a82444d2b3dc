"""The modular loss: its two forms, its gradient, its families and its bounds."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import loss_checks, numpy_losses, small_models
from tests.loss_checks import CLASSES, HEADS


def squared_distance(p, q):
    return ((p - q) ** 2).mean(-1)


def poisson_divergence(p, q):
    return (q - p - p * np.log(q / p)).mean(-1)


# family: (base loss, link, kind of target, oracle, D(p || q), factor of equation 8)
FAMILIES = {
    "categorical": (
        "categorical_crossentropy",
        "softmax",
        "one_hot",
        numpy_losses.categorical,
        numpy_losses.softmax_divergence,
        1.0,
    ),
    "bernoulli": (
        "binary_crossentropy",
        "sigmoid",
        "multi_hot",
        numpy_losses.binary,
        numpy_losses.sigmoid_divergence,
        1 / CLASSES,
    ),
    "gaussian": (
        "mse",
        "linear",
        "real",
        numpy_losses.squared,
        squared_distance,
        2 / CLASSES,
    ),
    "poisson": (
        "poisson",
        "exponential",
        "counts",
        numpy_losses.poisson,
        poisson_divergence,
        1 / CLASSES,
    ),
}
COUPLINGS = [-0.5, 0.0, 0.7, 1.0]
families = pytest.mark.parametrize("family", FAMILIES)


@pytest.mark.parametrize("coupling", COUPLINGS)
@families
def test_value_and_gradient_equal_numpy_in_both_forms(family, coupling):
    base, link, kind, plain, divergence, _ = FAMILIES[family]
    z, target = loss_checks.draw_logits(1.0), loss_checks.draw_target(kind)
    loss = eh.losses.Modular(coupling)
    got = loss_checks.value_and_gradient(loss, base, target, z, link)

    def equation_4(z):
        return numpy_losses.modular(plain, target, z, link, coupling)

    def equation_6(z):
        return numpy_losses.ambiguity_form(plain, divergence, target, z, link, coupling)

    loss_checks.assert_equals_numpy(got, equation_4, z)
    loss_checks.assert_equals_numpy(got, equation_6, z)
    npt.assert_allclose(equation_4(z), equation_6(z), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("coupling", COUPLINGS)
@families
def test_gradient_is_equation_8(family, coupling):
    base, link, kind, _, _, factor = FAMILIES[family]
    z, target = loss_checks.draw_logits(1.0), loss_checks.draw_target(kind)
    loss = eh.losses.Modular(coupling)
    _, gradient = loss_checks.value_and_gradient(loss, base, target, z, link)
    heads = numpy_losses.LINKS[link](z)
    whole = numpy_losses.LINKS[link](z.mean(1, keepdims=True))
    expected = heads - target[:, None] - coupling * (heads - whole)
    npt.assert_allclose(gradient, factor / HEADS * expected, rtol=1e-5, atol=1e-6)


def test_gaussian_case_is_negative_correlation_learning():
    """(f_i - y) + lambda sum_{j != i} (f_j - f) is Liu and Yao's gradient."""
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("real")
    loss = eh.losses.Modular(0.6)
    _, gradient = loss_checks.value_and_gradient(loss, "mse", target, z, "linear")
    apart = z - z.mean(1, keepdims=True)
    penalty = apart.sum(1, keepdims=True) - apart  # over the others
    expected = z - target[:, None] + 0.6 * penalty
    npt.assert_allclose(gradient, 2 / CLASSES / HEADS * expected, rtol=1e-4, atol=1e-6)


SMOOTHED = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)


@pytest.mark.parametrize(
    "base, link, kind",
    [
        *(FAMILIES[family][:3] for family in FAMILIES),
        # Targets that do not sum to 1, some to 0.
        ("categorical_crossentropy", "softmax", "multi_hot"),
        (SMOOTHED, "softmax", "multi_hot"),
    ],
)
def test_n_times_it_is_the_ensembling_loss_of_the_mean_logits(base, link, kind):
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    target[0] *= kind != "multi_hot"
    pair = eh.losses.Modular(0.4), eh.losses.Ensembling(0.4)
    one, other = (
        loss_checks.value_and_gradient(loss, base, target, z, link) for loss in pair
    )
    for ours, theirs in zip(one, other):
        npt.assert_allclose(HEADS * np.array(ours), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("link", loss_checks.CROSS_ENTROPIES)
def test_saturated_logits_give_finite_numbers(link, dtype):
    base = loss_checks.CROSS_ENTROPIES[link][0]
    got = loss_checks.value_and_gradient(
        eh.losses.Modular(0.9),
        base,
        loss_checks.SATURATED_TARGET,
        tf.cast(loss_checks.SATURATED, dtype),
        link,
    )
    assert all(np.isfinite(tf.cast(part, tf.float32)).all() for part in got)


# ---- In models


def test_regression_heads_disagree_more_the_more_they_are_coupled():
    x = np.random.uniform(-2, 2, size=(64, small_models.FEATURES)).astype("float32")
    y = np.sin(x.sum(1, keepdims=True))
    spread = {}
    first = small_models.dense_model(4, "linear", units=1)
    weights = first.get_weights()
    for coupling in (0.0, 0.9):
        model = small_models.dense_model(4, "linear", units=1)
        model.set_weights(weights)
        model.compile(
            keras.optimizers.Adam(0.02),
            "mse",
            ensemble_loss=eh.losses.Modular(coupling),
            metrics=["mse"],
        )
        before = model.evaluate(x, y, verbose=0, return_dict=True)
        model.fit(x, y, epochs=20, batch_size=16, verbose=0)
        after = model.evaluate(x, y, verbose=0, return_dict=True)
        names = [n for n in after if n != "loss"]
        assert all(after[n] < 0.8 * before[n] for n in names)
        spread[coupling] = np.array(model.head_predictions(x)).std(1).mean()
    assert spread[0.9] > 1.5 * spread[0.0]


def rates(activation="exponential"):
    """A model of a number of events, before surgery."""
    layers = keras.layers
    inputs = keras.Input((small_models.FEATURES,))
    shared = layers.Dense(7, activation="tanh", name="shared")(inputs)
    return keras.Model(inputs, layers.Dense(2, activation=activation)(shared))


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_exponential_output_is_averaged_as_rates_or_log_rates(of):
    single = rates()
    model = eh.multi_head(single, "shared", 3, ensembler=eh.ensemblers.Mean(of))
    assert model.links == "exponential"
    x, _ = small_models.classification_data()
    heads = np.array(model.head_predictions(x), "float64")
    npt.assert_allclose(heads[:, 1], model.head(1)(x), rtol=1e-5)
    expected = heads.mean(1) if of == "probabilities" else np.exp(np.log(heads).mean(1))
    npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    copied = eh.multi_head(single, "shared", 2, copy_weights=True)
    npt.assert_allclose(copied(x), single(x), rtol=1e-5)


@pytest.mark.parametrize("activation", ["exponential", "softplus"])
@pytest.mark.parametrize("loss", ["poisson", keras.losses.Poisson()])
def test_poisson_loss_equals_keras_own(loss, activation):
    single = rates(activation)
    model = eh.multi_head(single, "shared", 1, copy_weights=True)
    x, _ = small_models.classification_data()
    y = np.random.poisson(2.0, size=(len(x), 2))
    results = []
    for one in (single, model):
        one.compile("sgd", loss)
        results.append(one.evaluate(x, y, verbose=0))
    npt.assert_allclose(results[1], results[0], rtol=1e-5)


def test_poisson_model_trains_and_loads(tmp_path):
    mean = eh.ensemblers.Mean("logits")
    model = eh.multi_head(rates(), "shared", 3, ensembler=mean)
    x, _ = small_models.classification_data()
    y = np.random.poisson(2.0, size=(len(x), 2))
    model.compile("adam", "poisson", ensemble_loss=eh.losses.Modular(0.8))
    history = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again(x), model(x), rtol=1e-6)
    npt.assert_allclose(
        again.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_negative_numbers_of_events(dtype):
    model = eh.multi_head(rates(), "shared", 2)
    x, _ = small_models.classification_data()
    y = np.random.poisson(2.0, size=(len(x), 2)).astype(dtype)
    model.compile("sgd", "poisson")
    model.fit(x, y, verbose=0)
    y[3, 1] = -1
    with pytest.raises(ValueError, match="`y` must hold numbers of events, 0 or more"):
        model.fit(x, y, verbose=0)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    with pytest.raises(ValueError, match="numbers of events.*Received: values from -1"):
        model.fit(data, verbose=0)


# ---- What it refuses


def test_coupling_above_one_names_the_theorem():
    with pytest.raises(ValueError, match="theorem 1 of Webb et al.*coupling=1.01"):
        eh.losses.Modular(1.01)
    with pytest.raises(ValueError, match="`coupling` must be a finite number"):
        eh.losses.Modular(float("nan"))


@pytest.mark.parametrize(
    "loss", ["mae", keras.losses.CategoricalFocalCrossentropy(), "kld"]
)
def test_loss_of_no_exponential_family(loss):
    model = small_models.dense_model(2, ensembler=eh.ensemblers.Mean("logits"))
    with pytest.raises(ValueError, match="natural exponential family.*Received: loss="):
        model.compile("sgd", loss, ensemble_loss=eh.losses.Modular(0.5))


def test_loss_and_output_of_different_families():
    model = small_models.dense_model(2, ensembler=eh.ensemblers.Mean("logits"))
    with pytest.raises(ValueError, match="linear activation.*a softmax output"):
        model.compile("sgd", "mse", ensemble_loss=eh.losses.Modular(0.5))


@pytest.mark.parametrize("ensembler", ["mean", small_models.Weighting(name="own")])
def test_model_that_predicts_another_combination(ensembler):
    model = small_models.dense_model(2, ensembler=ensembler)
    has = "own" if ensembler != "mean" else r"Mean\('probabilities'\)"
    message = rf"must be eh.ensemblers.Mean\('logits'\).*Received: ensembler={has}"
    for loss in (eh.losses.Modular(0.5), eh.losses.EnsembleMean("logits")):
        with pytest.raises(ValueError, match=message):
            model.compile("sgd", "sparse_categorical_crossentropy", ensemble_loss=loss)


def test_loss_on_logits_gives_the_family():
    mean = eh.ensemblers.Mean("logits")
    model = small_models.dense_model(2, "linear", ensembler=mean)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, ensemble_loss=eh.losses.Modular(0.5))
    x, y = small_models.classification_data()
    raw = np.array(model.head_predictions(x), "float64")
    truth = np.eye(small_models.CLASSES)[y]
    expected = numpy_losses.modular(
        numpy_losses.categorical, truth, raw, "softmax", 0.5
    )
    npt.assert_allclose(model.evaluate(x, y, verbose=0), expected.mean(), rtol=1e-5)
