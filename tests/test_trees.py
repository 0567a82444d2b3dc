"""Trees (Lee et al. 2015, section 5): what they compute, share, weigh, save and refuse."""

import itertools

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.head_layouts import HeadTree
from ensemble_heads.keras_api import keras
from tests.folding_checks import check_equal, randomise
from tests.narrowing_checks import kill_half_of_the_channels
from tests.profile_checks import rows
from tests.tree_models import convolutional, images, parts, plain

layers = keras.layers
SPARSE = "sparse_categorical_crossentropy"
# Lists for `fork_at`, and the way to every head.
TREES = {
    "binary": (
        ["stage1", "stage2"],
        [("trunk", f"branch_{i}", f"branch_{i}.{j}") for i in (0, 1) for j in (0, 1)],
    ),
    "nested": (
        ["stage1", ["stage2", None], [None, "stage3"]],
        [
            ("trunk", "branch_0", "branch_0.0"),
            ("trunk", "branch_0", "branch_0.1", "branch_0.1.0"),
            ("trunk", "branch_0", "branch_0.1", "branch_0.1.1"),
            ("trunk", "branch_1"),
        ],
    ),
    "different depths": (
        ["image", ["stage1", "stage3"]],
        [("trunk", f"branch_{i}", f"branch_{i}.{j}") for i in (0, 1) for j in (0, 1)],
    ),
}


def tree(fork_at=("stage1", ["stage2", None]), num_heads=2, **options):
    return eh.multi_head(convolutional(), list(fork_at), num_heads, **options)


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
    one, other = (tree([place], seed=3) for place in ("stage1", "stage1"))
    plain_one = eh.multi_head(convolutional(), "stage1", seed=3)
    for model in (one, other):
        assert [part.name for part in model.wrapper.layout.parts] == [
            "head_0",
            "head_1",
        ]
        x = images()
        npt.assert_array_equal(model(x), plain_one(x))


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
    for fork_at in (["shared", "lower"], ["words", "lower"]):
        model = eh.multi_head(single, fork_at, copy_weights=True)
        npt.assert_allclose(model(data), single(data), rtol=1e-4, atol=1e-6)
        assert not np.allclose(single(data), single([data[0] + 1, data[1]]))


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


# ---- What they weigh


def costs(model, **options):
    """{branch: parameters}, checked to sum to the totals of the profile."""
    result = eh.profile(model, **options)
    assert sum(b.parameters for b in result.branches) == result.parameters
    assert sum(b.flops for b in result.branches) == result.flops
    assert all(b.name in str(result) for b in result.branches)
    return {branch.name: branch.parameters for branch in result.branches}


def test_parameters_of_cifar10_quick_are_counted_per_branch():
    model = zoo.build("cifar10_quick_3heads", fork_at=["pool1", "pool2"], num_heads=2)
    conv1, conv2 = 5 * 5 * 3 * 32 + 32, 5 * 5 * 32 * 32 + 32
    leaf = (5 * 5 * 32 * 64 + 64) + (4 * 4 * 64 * 64 + 64) + (64 * 10 + 10)
    leaves = {f"branch_{i}.{j}": leaf for i in (0, 1) for j in (0, 1)}
    middle = {"branch_0": conv2, "branch_1": conv2}
    expected = {"trunk": conv1, **middle, **leaves, "(other)": 0}
    assert costs(model) == expected
    assert eh.profile(model).parameters == conv1 + 2 * conv2 + 4 * leaf


def test_parameters_of_a_residual_network_are_counted_per_branch():
    single = zoo.build("cifar_resnet32", blocks=(1, 1, 1), classes=10)
    model = eh.multi_head(single, ["stage1", ["stage2", None]], width_multiplier=0.5)

    def conv(size, inputs, outputs):  # folded: with a bias
        return size * size * inputs * outputs + outputs

    def unit(inputs, outputs):
        return conv(3, inputs, outputs) + conv(3, outputs, outputs)

    trunk = conv(3, 3, 16) + unit(16, 16)
    named = {row.name for row in eh.profile(model).rows}
    projected = any("shortcut" in name and "conv" in name for name in named)
    stage2 = unit(16, 16) + projected * conv(1, 16, 16)
    stage3 = unit(16, 32) + projected * conv(1, 16, 32) + (32 * 10 + 10)
    assert costs(model) == {
        "trunk": trunk,
        "branch_0": stage2,
        "branch_0.0": stage3,
        "branch_0.1": stage3,
        "branch_1": stage2 + stage3,
        "(other)": 0,
    }


def test_shared_parts_are_run_once():
    table = rows(eh.profile(tree(["stage1", "stage2"], num_heads=[1, 3])))
    once = 6 * 6 * 6 * (2 * 9 * 4 + 1)  # of conv2 for all three heads
    assert [v[1] for k, v in table.items() if k.endswith("/conv2")] == [once]


# ---- Widths and draws


def test_every_part_is_narrowed_to_fit_the_next():
    model = tree(["stage1", "stage2", "stage3"], width_multiplier=0.5)
    found = parts(model)
    assert found["trunk"].get_layer("conv1").filters == 4
    assert found["branch_1"].get_layer("conv2").filters == 3
    assert found["branch_1"].get_layer("project").filters == 3
    assert found["branch_1.0"].get_layer("conv3").filters == 4
    assert found["branch_1.0.1"].get_layer("out").units == 5
    changes = {"conv3": {"filters": 7}, "conv2": {"use_bias": False}}
    found = parts(tree(width_multiplier=0.5, overrides=changes))
    for name in ("branch_0.0", "branch_0.1", "branch_1"):
        assert found[name].get_layer("conv3").kernel.shape == (3, 3, 3, 7)
    assert not found["branch_0"].get_layer("conv2").use_bias


@pytest.mark.parametrize("fork_at", [TREES[n][0] for n in ("binary", "nested")])
def test_auto_is_the_widest_tree_within_the_budget(fork_at):
    single = zoo.build("cifar10_quick", input_shape=(16, 16, 3))
    names = {"stage1": "conv1", "stage2": "conv2", "stage3": "ip1"}

    def renamed(item):
        if isinstance(item, list):
            return [renamed(one) for one in item]
        return names.get(item)

    budget = eh.profile(single)
    model = eh.multi_head(single, renamed(fork_at), 2, "auto", divisor=1)
    wider = eh.multi_head(
        single, renamed(fork_at), 2, model.width_multiplier + 1 / 32, divisor=1
    )
    fits = [
        cost.parameters <= budget.parameters and cost.flops <= budget.flops
        for cost in (eh.profile(model), eh.profile(wider))
    ]
    assert fits == [True, False] and 0.2 < model.width_multiplier < 1


def test_copied_weights_are_those_of_the_single_model():
    single, x = randomise(convolutional()), images()
    for fork_at, _ in TREES.values():
        model = eh.multi_head(single, fork_at, copy_weights=True)
        npt.assert_allclose(model(x), single(x), rtol=1e-4, atol=1e-6)
    kill_half_of_the_channels(single, "stage1")
    half = eh.multi_head(
        single, ["stage1", "stage2"], width_multiplier=0.5, copy_weights=True
    )
    npt.assert_allclose(half(x), single(x), rtol=1e-3, atol=1e-5)


def test_every_branch_has_draws_of_its_own_that_its_place_decides():
    one, same, other = tree(seed=1), tree(seed=1), tree(seed=2)
    for mine, again in zip(one.get_weights(), same.get_weights(), strict=True):
        npt.assert_array_equal(mine, again)
    found = parts(one)
    kernels = [
        found[name].get_layer("conv3").get_weights()[0]
        for name in ("branch_0.0", "branch_0.1", "branch_1")
    ]
    kernels.append(parts(other)["branch_0.0"].get_layer("conv3").get_weights()[0])
    for a, b in itertools.combinations(kernels, 2):
        assert np.abs(a - b).max() > 0.01
    # A tree with more branches beside it leaves a branch as it was.
    more = tree(["stage1", ["stage2", None, "stage2"]], num_heads=3, seed=1)
    for name in ("branch_0", "branch_0.1", "branch_1"):
        for mine, again in zip(
            found[name].get_weights(), parts(more)[name].get_weights()
        ):
            npt.assert_array_equal(mine, again)


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
    model, other, x = randomise(tree()), randomise(tree(), seed=1), images()
    model.compile("adam", SPARSE)
    model.fit(x, np.zeros(6), verbose=0)
    said = np.array(model.head_predictions(x))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again.head_predictions(x), said, rtol=1e-5)
    assert len(again.weights) == len(model.weights)
    assert again.train_on_batch(x, np.zeros(6)) == pytest.approx(
        model.train_on_batch(x, np.zeros(6)), rel=1e-4
    )
    said = np.array(model.head_predictions(x))
    path = str(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=model).write(path)
    tf.train.Checkpoint(model=other).read(path).expect_partial()
    npt.assert_allclose(other.head_predictions(x), said, rtol=1e-5)
    other = randomise(tree(), seed=2)
    model.heads  # these models are not to be found by Keras' savers
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


def test_mixed_precision_and_xla():
    keras.mixed_precision.set_global_policy("mixed_float16")
    low = tree(seed=1)
    keras.mixed_precision.set_global_policy("float32")
    full, x = tree(seed=1), images()
    assert low.dtype_policy.name == "mixed_float16"
    npt.assert_allclose(low(x), full(x), atol=0.01)
    y = np.arange(6) % 5
    for model, jit in ((low, False), (full, True)):
        same = tree(seed=1)
        same.compile(keras.optimizers.SGD(0.1), SPARSE)
        model.compile(keras.optimizers.SGD(0.1), SPARSE, jit_compile=jit)
        logs = [m.fit(x, y, epochs=3, verbose=0).history for m in (model, same)]
        tolerance = 1e-4 if jit else 0.02
        npt.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=tolerance)


# ---- Errors


@pytest.mark.parametrize(
    ("fork_at", "num_heads", "message"),
    [
        ([], 2, r"`fork_at` must be a layer or its name, or a list.*fork_at=\[\]"),
        (["stage1", ["stage2"]], 2, r"(?s)each of the 2 branches.*\['stage2'\] in fo"),
        (["stage1", ["stage2", ["stage3"]]], 2, "one entry for each of the 2 branches"),
        (["stage1", [None, None]], 2, "at least one branch fork at every level"),
        (["stage1", None], 2, "at least one branch fork at every level"),
        (["stage1", "stage2"], [2], r"one for each of the 2 levels.*num_heads=\[2\]"),
        (["stage1", "stage2"], [2, 0], "`num_heads` must be an integer of at least 1"),
        ("stage1", [2, 2], "one for each of the 1 levels"),
        (["stage1", "stage1"], 2, "must not fork twice at one layer.*`stage1`"),
        (["stage2", "stage1"], 2, "(?s)nor below an earlier.*come after `stage2`"),
        (["stage1", ["stage2", "stag3"]], 2, "(?s)after `stage1`.*`stage3`.*'stag3'"),
        (["stage1", "norm2"], 2, r"(?s)skip connection.*behind `norm2`.*`stage1`"),
        (["stage1", "out"], 2, "nothing depends on the output of `out`"),
    ],
)
def test_bad_trees(fork_at, num_heads, message):
    with pytest.raises(ValueError, match=message):
        eh.multi_head(convolutional(), fork_at, num_heads)


def test_bad_layouts():
    some = [layers.Dense(2), layers.Dense(2)]
    with pytest.raises(ValueError, match=r"`parents` must give.*parents=\[1, None\]"):
        HeadTree(some, [1, None])
    with pytest.raises(ValueError, match=r"`leaves` must be.*leaves=\[0\]"):
        HeadTree(some, [None, None], [0])
