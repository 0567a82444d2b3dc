"""Multiple choice learning: which heads learn from which example."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import loss_checks, numpy_losses, small_models
from tests.loss_checks import HEADS

SPARSE = "sparse_categorical_crossentropy"


def head_losses(plain, target, z, link):
    p = numpy_losses.LINKS[link](z)
    return np.stack([plain(target, p[:, i]) for i in range(z.shape[1])], 1)


@pytest.mark.parametrize("independent_weight", [0.0, 0.3])
@pytest.mark.parametrize("num_choices", [1, 2, 3])
@pytest.mark.parametrize("link", loss_checks.CROSS_ENTROPIES)
def test_value_and_gradient_equal_numpy(link, num_choices, independent_weight):
    base, kind, plain = loss_checks.CROSS_ENTROPIES[link]
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    loss = eh.losses.MultipleChoice(num_choices, independent_weight)
    got = loss_checks.value_and_gradient(loss, base, target, z, link)

    def function(z):
        losses = head_losses(plain, target, z, link)
        own = independent_weight * losses.sum(1)
        return numpy_losses.lowest(losses, num_choices) + own

    loss_checks.assert_equals_numpy(got, function, z)


def test_all_choices_are_every_head_for_itself():
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("one_hot")
    pair = eh.losses.MultipleChoice(HEADS), eh.losses.Ensembling(0.0)
    results = [
        loss_checks.value_and_gradient(
            loss, "categorical_crossentropy", target, z, "softmax"
        )
        for loss in pair
    ]
    for one, other in zip(*results):
        npt.assert_allclose(one, other, rtol=1e-12)


def chosen_among_equals(count, seed, step, heads=4, examples=400):
    """Which heads get a gradient where all are the same, bool `[examples, heads]`."""
    z = np.zeros((examples, heads, 3), "float32")
    loss = eh.losses.MultipleChoice(count, seed=seed)
    values, gradient = loss_checks.value_and_gradient(
        loss, SPARSE, np.zeros(examples, int), z, "softmax", step=step
    )
    npt.assert_allclose(values, count * np.log(3), rtol=1e-6)
    return np.abs(gradient).max(-1) > 0


@pytest.mark.parametrize("count", [1, 2, 4])
def test_ties_are_broken_evenly_and_reproducibly(count):
    chosen = chosen_among_equals(count, seed=1, step=7)
    npt.assert_array_equal(chosen.sum(1), count)
    npt.assert_array_equal(chosen, chosen_among_equals(count, seed=1, step=7))
    # 400 draws: a share strays by more than 0.12 once in a million.
    assert np.abs(chosen.mean(0) - count / 4).max() < 0.12
    if count < 4:
        for seed, step in ((1, 8), (2, 7)):
            assert (chosen != chosen_among_equals(count, seed, step)).mean() > 0.1


def test_lower_losses_win_against_ties():
    z = np.zeros((50, 3, 2), "float32")
    z[:, 1, 0] = 1e-3  # a little better
    loss = eh.losses.MultipleChoice(2)
    target = np.zeros(50, int)
    _, gradient = loss_checks.value_and_gradient(loss, SPARSE, target, z, "softmax")
    chosen = np.abs(gradient).max(-1) > 0
    assert chosen[:, 1].all() and 0 < chosen[:, 0].sum() < 50


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("link", loss_checks.CROSS_ENTROPIES)
def test_saturated_logits_give_finite_numbers(link, dtype):
    got = loss_checks.value_and_gradient(
        eh.losses.MultipleChoice(1),
        loss_checks.CROSS_ENTROPIES[link][0],
        loss_checks.SATURATED_TARGET,
        tf.cast(loss_checks.SATURATED, dtype),
        link,
    )
    values, gradient = (np.array(tf.cast(part, tf.float32)) for part in got)
    assert np.isfinite(gradient).all()
    npt.assert_allclose(values[[0, 2]], 0.0)  # the head that is right


# ---- Positions, masks and weights


def test_heads_are_chosen_for_the_whole_example():
    z = np.random.normal(size=(6, 3, 5, 4))  # five positions
    labels = np.random.randint(0, 4, (6, 5))
    loss = eh.losses.MultipleChoice(1)
    values, _ = loss_checks.value_and_gradient(loss, SPARSE, labels, z, "softmax")
    p = numpy_losses.softmax(z)
    own = -np.log(np.take_along_axis(p, labels[:, None, :, None], -1)[..., 0])
    best = own.sum(2).argmin(1)
    npt.assert_allclose(values, own[np.arange(6), best], rtol=1e-5)


@pytest.mark.parametrize("how", ["mask", "ignore_class"])
def test_positions_that_do_not_count_choose_nothing(how):
    z = np.zeros((1, 2, 3, 4), "float32")
    labels = np.array([[1, 2, 3]])
    z[0, 0, :2, :] = np.eye(4)[[1, 2]]  # head 0 is better where it counts,
    z[0, 1, 2, 3] = 50.0  # head 1 by far where it does not.
    mask, base = np.array([[True, True, False]]), SPARSE
    if how == "ignore_class":
        base = eh.losses.SparseCategoricalCrossentropy(ignore_class=0)
        mask, labels = None, np.array([[1, 2, 0]])
    loss = eh.losses.MultipleChoice(1)
    _, gradient = loss_checks.value_and_gradient(
        loss, base, labels, z, "softmax", mask=mask
    )
    assert np.abs(gradient[0, 0, :2]).min() > 0
    npt.assert_array_equal(gradient[0, 1], 0.0)


def test_sample_weights_weigh_the_chosen_loss():
    model = small_models.dense_model(3)
    x, y = small_models.classification_data()
    weights = np.random.uniform(0, 2, len(y))
    model.compile("sgd", SPARSE, ensemble_loss=eh.losses.MultipleChoice(2))
    p = np.array(model.head_predictions(x))
    own = -np.log(p[np.arange(len(y)), :, y])
    expected = (numpy_losses.lowest(own, 2) * weights).mean()
    got = model.evaluate(x, y, sample_weight=weights, verbose=0)
    npt.assert_allclose(got, expected, rtol=1e-5)


def test_positions_without_weight_choose_nothing():
    steps = keras.Input((5, small_models.FEATURES))
    x = keras.layers.Dense(6, name="shared")(steps)
    single = keras.Model(steps, keras.layers.Dense(4, activation="softmax")(x))
    model = eh.multi_head(single, "shared", num_heads=3, seed=3)
    model.compile("sgd", SPARSE, ensemble_loss=eh.losses.MultipleChoice(1))
    x = np.random.normal(size=(20, 5, small_models.FEATURES))
    labels = np.random.randint(0, 4, (20, 5))
    weights = np.tile([0.5, 2.0, 1.0, 0.0, 0.0], (20, 1))
    p = np.array(model.head_predictions(x))
    own = -np.log(np.take_along_axis(p, labels[:, None, :, None], -1)[..., 0])
    expected = (own * weights[:, None]).sum(2).min(1).sum() / labels.size
    got = model.evaluate(x, labels, sample_weight=weights, verbose=0)
    npt.assert_allclose(got, expected, rtol=1e-5)


def test_heads_are_chosen_by_all_outputs_together():
    inputs = keras.Input((small_models.FEATURES,))
    x = keras.layers.Dense(6, name="shared")(inputs)
    outputs = [keras.layers.Dense(1, name="a")(x), keras.layers.Dense(3, name="b")(x)]
    model = eh.multi_head(keras.Model(inputs, outputs), "shared", 3, seed=3)
    x = np.random.normal(size=(20, small_models.FEATURES))
    a, b = np.random.normal(size=(20, 1)), np.random.randint(0, 3, 20)
    model.compile(
        "sgd",
        ["mse", keras.losses.SparseCategoricalCrossentropy(from_logits=True)],
        loss_weights=[1.0, 2.0],
        ensemble_loss=eh.losses.MultipleChoice(1),
    )
    of_a, of_b = map(np.array, model.head_predictions(x))
    of_a = (of_a[..., 0] - a) ** 2
    of_b = -np.log(numpy_losses.softmax(of_b)[np.arange(20), :, b])
    apart = (of_a.min(1) + 2 * of_b.min(1)).mean()
    together = (of_a + 2 * of_b).min(1).mean()
    assert together > apart + 0.01
    got = model.evaluate(x, [a, b], verbose=0, return_dict=True)
    npt.assert_allclose(got["loss"], together, rtol=1e-5)


# ---- Training


def clusters(examples=240, classes=4):
    labels = np.random.randint(0, classes, examples)
    centres = np.random.normal(size=(classes, small_models.FEATURES))
    noise = np.random.normal(scale=1.2, size=(examples, small_models.FEATURES))
    return (centres[labels] + noise).astype("float32"), labels


def test_fine_tuning_a_trained_ensemble_specialises_its_heads():
    """Fewer choices: the oracle gains, the single head loses (table 4)."""
    x, y = clusters()
    model = small_models.dense_model(4)
    model.compile(keras.optimizers.Adam(0.02), SPARSE)
    model.fit(x, y, epochs=8, verbose=0)

    def accuracies():
        right = np.array(model.head_predictions(x)).argmax(-1) == y[:, None]
        return right.any(1).mean(), right.mean()

    oracle, head = accuracies()
    loss = eh.losses.MultipleChoice(1)
    model.compile(keras.optimizers.Adam(0.02), SPARSE, ensemble_loss=loss)
    model.fit(x, y, epochs=25, verbose=0)
    special_oracle, special_head = accuracies()
    assert special_oracle > oracle + 0.05
    assert special_head < head - 0.05


def test_runs_repeat_and_compile_alike():
    """Equal heads: every choice of the first step is a tie."""
    x, y = small_models.classification_data()
    model = small_models.dense_model(3)
    for head in model.heads[1:]:
        head.set_weights(model.heads[0].get_weights())
    weights, results = model.get_weights(), []
    for settings in ({}, {}, {"run_eagerly": True}, {"jit_compile": True}):
        model.set_weights(weights)
        loss = eh.losses.MultipleChoice(1)
        optimizer = keras.optimizers.SGD(0.5)
        model.compile(optimizer, SPARSE, ensemble_loss=loss, **settings)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        results.append(np.array(model.head_predictions(x)))
    for result in results[1:]:
        npt.assert_allclose(result, results[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(results[0], axis=1).max() > 1e-2  # the heads have parted


# ---- Arguments


def test_arguments():
    for count in (0, 1.5, True, "all"):
        with pytest.raises(ValueError, match="`num_choices` must be an integer of at"):
            eh.losses.MultipleChoice(count)
    with pytest.raises(ValueError, match="`independent_weight` must be at least 0"):
        eh.losses.MultipleChoice(1, -0.1)
    with pytest.raises(ValueError, match=r"`seed` must be below 2\^31"):
        eh.losses.MultipleChoice(1, seed=2**31)
    model = small_models.dense_model(2)
    message = "at most the number of heads, 2. Received: num_choices=3"
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", SPARSE, ensemble_loss=eh.losses.MultipleChoice(3))
