"""Trees (Lee et al. 2015, section 5): what they compute, share, save and refuse."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import small_models
from tests.folding_checks import check_equal, randomise
from tests.small_models import dense_tree
from tests.tree_models import TREES, convolutional, costs, images, parts, plain, tree

layers = keras.layers
SPARSE = "sparse_categorical_crossentropy"


# ---- What they compute


@pytest.mark.parametrize("name", TREES)
def test_every_head_is_the_single_model_with_the_weights_on_its_way(name):
    fork_at, ways = TREES[name]
    model, x = randomise(tree(fork_at)), images()
    assert model.num_heads == len(ways) == len(model.heads)
    expected = np.stack([np.array(plain(model, way)(x)) for way in ways], 1)
    npt.assert_allclose(model.head_predictions(x), expected, rtol=1e-4, atol=1e-6)
    npt.assert_allclose(model(x), expected.mean(1), rtol=1e-4, atol=1e-6)
    npt.assert_allclose(model.predict(x, verbose=0), expected.mean(1), rtol=1e-4)
    features = model.trunk(x)
    for i in range(model.num_heads):
        npt.assert_allclose(model.head(i)(x), expected[:, i], rtol=1e-4, atol=1e-6)
        raw = tf.nn.softmax(model.heads[i](features))
        npt.assert_allclose(raw, expected[:, i], rtol=1e-4, atol=1e-6)


def test_a_list_of_one_place_is_the_plain_case():
    model, x = tree(["stage1"], seed=3), images()
    assert list(parts(model)) == ["trunk", "head_0", "head_1"]
    same = eh.multi_head(convolutional(), "stage1", seed=3)
    npt.assert_array_equal(model(x), same(x))


def test_numbers_of_branches_may_differ_by_level():
    model = tree(["stage1", "stage2"], [3, 2])
    assert model.num_heads == 6 and len(parts(model)) == 1 + 3 + 6
    assert tree(["stage1", "stage2"], [1, 2]).num_heads == 2


def test_layers_may_be_given_in_place_of_names():
    single = convolutional()
    places = [single.get_layer("stage1"), single.get_layer("stage2")]
    model = eh.multi_head(single, places)
    assert parts(model)["branch_0"].layers[-1].name == "stage2"


def test_masks_and_other_inputs_are_handed_on():
    """The second fork lies between a mask and what takes it, and so does an input."""
    words = keras.Input((5,), dtype="int32", name="words")
    weight = keras.Input((1,), name="weight")
    x = layers.Embedding(9, 4, mask_zero=True, name="shared")(words)
    x = layers.LSTM(6, return_sequences=True, name="lower")(x)
    x = layers.LSTM(3, name="upper")(x)
    x = layers.Multiply(name="weighted")([x, weight])
    single = keras.Model([words, weight], layers.Dense(2, name="out")(x))
    data = [
        np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]], "int32"),
        np.array([[2.0], [3.0]], "float32"),
    ]
    unmasked = [np.array([[1, 2, 3, 1, 1], [4, 5, 6, 7, 8]], "int32"), data[1]]
    assert not np.allclose(single(data)[0], single(unmasked)[0], rtol=1e-3)
    for fork_at in (["shared", "lower"], ["words", "lower"]):
        model = eh.multi_head(single, fork_at, copy_weights=True)
        npt.assert_allclose(model(data), single(data), rtol=1e-4, atol=1e-6)


def test_ensemblers_see_the_features_of_the_trunk():
    model, x = tree(ensembler=eh.ensemblers.Gated()), images()
    features = model.trunk(x)
    logits = model.wrapper.logits(features)
    expected = tf.nn.softmax(model.ensembler([logits, features]))
    npt.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-6)


# ---- What they share


def test_gradients_of_all_leaves_reach_the_part_they_share():
    model, x = tree(), images()
    y = np.array([0, 1, 2, 3, 4, 0])
    shared = parts(model)["branch_0"].get_layer("conv2").kernel
    expected, alone = 0.0, []
    for i in range(3):
        gradient = gradient_of(model, i, x, y, shared)
        alone.append(0.0 if gradient is None else np.abs(gradient).max())
        expected = expected if gradient is None else expected + np.array(gradient)
    assert alone[0] > 1e-4 and alone[1] > 1e-4 and alone[2] == 0
    before = np.array(shared)
    model.compile(keras.optimizers.SGD(0.5), SPARSE)
    model.fit(x, y, batch_size=6, verbose=0)
    npt.assert_allclose(before - np.array(shared), 0.5 * expected, atol=1e-5)


def gradient_of(model, i, x, y, variable):
    """The gradient of a head's mean cross entropy in one variable, or None."""
    head = model.head(i)
    with tf.GradientTape() as tape:
        said = head(x, training=True)
        value = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, said))
    found = tape.gradient(value, head.trainable_variables)
    places = [j for j, v in enumerate(head.trainable_variables) if v is variable]
    return found[places[0]] if places else None


def test_independent_copies_train_as_models_of_their_own():
    """A fork at the input: a classical ensemble."""
    model = eh.multi_head(convolutional(), "image", num_heads=2)
    assert model.trunk.weights == []
    ways = [("trunk", "head_0"), ("trunk", "head_1")]
    alone = [plain(model, way) for way in ways]
    x, y = images(8), np.arange(8) % 5
    options = {"batch_size": 4, "epochs": 3, "shuffle": False, "verbose": 0}
    for one in (model, *alone):
        one.compile(keras.optimizers.SGD(0.2), SPARSE)
        one.fit(x, y, **options)
    said = [np.array(one(x)) for one in alone]
    assert np.abs(said[0] - said[1]).max() > 0.01
    npt.assert_allclose(model.head_predictions(x), np.stack(said, 1), atol=1e-5)
    for way, one in zip(ways, alone):
        for mine, own in zip(plain(model, way).get_weights(), one.get_weights()):
            npt.assert_allclose(mine, own, atol=1e-5)


def test_a_fork_at_one_of_several_inputs_shares_nothing_either():
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    both = [layers.Dense(4, name="a")(left), layers.Dense(4, name="b")(right)]
    single = keras.Model([left, right], layers.Add(name="sum")(both))
    model = eh.multi_head(single, "right", copy_weights=True)
    assert model.trunk.weights == [] and len(model.weights) == 2 * len(single.weights)
    x = [np.ones((2, 3), "float32"), np.ones((2, 2), "float32")]
    npt.assert_allclose(model(x), single(x), rtol=1e-5)


def test_one_head_shares_everything():
    single, x = randomise(convolutional()), images()
    for fork_at in ("image", "stage2", ["stage1", "stage2"]):
        model = eh.multi_head(single, fork_at, num_heads=1, copy_weights=True)
        npt.assert_allclose(model(x), single(x), rtol=1e-4, atol=1e-6)
        assert model.count_params() == single.count_params()


# ---- Some of the heads, folding, files


def test_selected_heads_go_on_sharing():
    model, x = randomise(tree()), images()
    said = np.array(model.head_predictions(x))
    for indices, kept in (
        ([1, 0], ["trunk", "branch_0", "branch_0.0", "branch_0.1"]),
        ([2, 1], ["trunk", "branch_0", "branch_0.1", "branch_1"]),
        ([2], ["trunk", "branch_1"]),
    ):
        some = model.select_heads(indices)
        assert list(parts(some)) == kept
        npt.assert_allclose(some.head_predictions(x), said[:, indices], rtol=1e-5)
        assert {id(w) for w in some.weights} <= {id(w) for w in model.weights}
        assert len(some.weights) == sum(len(p.weights) for p in parts(some).values())
    twice = model.select_heads([2, 1]).select_heads([1])
    npt.assert_allclose(twice.head_predictions(x), said[:, [1]], rtol=1e-5)


def test_folding():
    model, x = randomise(tree()), images()
    folded = eh.fold_batch_norm(model)
    assert list(parts(folded)) == list(parts(model))
    assert eh.unfolded_batch_norms(model) == ()
    check_equal(model.head_predictions, folded.head_predictions, inputs=x)
    names = {layer.name for part in parts(folded).values() for layer in part.layers}
    assert not {"norm1", "norm2", "norm3"} & names
    assert costs(model) == costs(folded)


def test_files_hold_every_part_once(tmp_path):
    model, other = randomise(dense_tree()), randomise(dense_tree(), seed=1)
    x, y = small_models.classification_data()
    model.compile("adam", SPARSE)
    model.train_on_batch(x, y)
    said = np.array(model.head_predictions(x))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again.head_predictions(x), said, rtol=1e-5)
    assert len(again.weights) == len(model.weights)
    expected = model.train_on_batch(x, y)
    assert again.train_on_batch(x, y) == pytest.approx(expected, rel=1e-4)
    said = np.array(model.head_predictions(x))
    path = str(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=model).write(path)
    tf.train.Checkpoint(model=other).read(path).expect_partial()
    npt.assert_allclose(other.head_predictions(x), said, rtol=1e-5)
    other = randomise(dense_tree(), seed=2)
    assert len(model.heads) == 3  # which Keras' savers are not to find
    model.save_weights(str(tmp_path / "model.weights.h5"))
    other.load_weights(str(tmp_path / "model.weights.h5"))
    npt.assert_allclose(other.head_predictions(x), said, rtol=1e-5)
    model.summary(print_fn=lambda *_, **__: None)


def test_export(tmp_path):
    model, x = randomise(tree()), images()
    said = np.array(model.head_predictions(x))
    for name, heads in (("all", None), ("some", [2, 0])):
        path = eh.export(model, tmp_path / name, heads=heads)
        served = tf.saved_model.load(path).signatures["heads"](image=tf.constant(x))
        expected = said if heads is None else said[:, heads]
        npt.assert_allclose(served["out"], expected, rtol=1e-3, atol=1e-5)


def test_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    low = tree(seed=1)
    keras.mixed_precision.set_global_policy("float32")
    full, x, y = tree(seed=1), images(), np.arange(6) % 5
    assert low.dtype_policy.name == "mixed_float16"
    npt.assert_allclose(low(x), full(x), atol=0.01)
    logs = []
    for model in (low, full):
        model.compile(keras.optimizers.SGD(0.1), SPARSE)
        logs.append(model.fit(x, y, batch_size=2, shuffle=False, verbose=0).history)
    npt.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=0.02)
