"""Fast R-CNN: sizes by hand, what detectors do, and trees of them."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.test_region_pooling import boxes

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

PROPOSALS = 6
LOSS = {
    "classes": eh.losses.SparseCategoricalCrossentropy(ignore_class=-1),
    "boxes": eh.detection.BoxRegression(),
}


def small(seed=0, **changes):
    """A small detector with outputs that are not all alike."""
    keras.utils.set_random_seed(seed)
    options = {"filters": (6, 8, 10), "hidden": (12,), "input_shape": (16, 16, 3)}
    model = zoo.build("fast_rcnn_small", **{**options, **changes})
    for name in ("classes", "boxes"):
        kernel, bias = model.get_layer(name).get_weights()
        model.get_layer(name).set_weights([kernel * 50, bias + 0.1])
    return model


def batch(size=4, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "image": rng.uniform(size=(size, 16, 16, 3)).astype("float32"),
        "proposals": boxes(size, PROPOSALS, seed=seed),
    }
    x["proposals"][:, -1] = 0
    objects = boxes(size, 2, seed=seed + 1)
    return x, eh.detection.assign_targets(
        x["proposals"], objects, rng.integers(0, 3, (size, 2)), 0.1
    )


def test_sizes_of_fast_rcnn_on_caffenet():
    """Convolutions of CaffeNet in two groups, 6 x 6 bins, 20 classes."""
    model = zoo.build("fast_rcnn_caffenet")
    sizes = {layer.name: layer.count_params() for layer in model.layers}
    assert {name: size for name, size in sizes.items() if size} == {
        "conv1": 11 * 11 * 3 * 96 + 96,
        "conv2": 5 * 5 * 48 * 256 + 256,
        "conv3": 3 * 3 * 256 * 384 + 384,
        "conv4": 3 * 3 * 192 * 384 + 384,
        "conv5": 3 * 3 * 192 * 256 + 256,
        "fc6": 6 * 6 * 256 * 4096 + 4096,
        "fc7": 4096 * 4096 + 4096,
        "classes": 4096 * 21 + 21,
        "boxes": 4096 * 80 + 80,
    }
    assert tuple(model.get_layer("conv5").output.shape[1:]) == (37, 62, 256)


def test_a_small_detector_counts_its_flops():
    model = small(proposals=PROPOSALS)
    flops = {row.name: row.flops for row in eh.profile(model).rows}
    assert flops["fc6"] == PROPOSALS * (2 * 4 * 4 * 10 * 12 + 12)
    # rows, [24 x 4] @ [4 x 40], and columns, 24 times [4 x 4] @ [4 x 10]
    products = 2 * (24 * 4 * 40 + 24 * 4 * 4 * 10)
    assert products <= flops["region_pool"] < 1.5 * products


def test_a_proposal_s_outputs_are_its_own():
    model, (x, _) = small(), batch()
    whole = model.predict(x, verbose=0)
    order = np.random.permutation(PROPOSALS)
    other = model.predict({**x, "proposals": x["proposals"][:, order]}, verbose=0)
    few = model.predict({**x, "proposals": x["proposals"][:, :2]}, verbose=0)
    for name, values in whole.items():
        npt.assert_allclose(other[name], values[:, order], atol=1e-5)
        npt.assert_allclose(few[name], values[:, :2], atol=1e-5)
        assert np.abs(values[:, 0] - values[:, 1]).max() > 1e-3
    npt.assert_allclose(whole["classes"].sum(-1), 1, atol=1e-5)


def test_a_horizontal_flip_flips():
    """What a model of flipped kernels sees in a flipped image at flipped boxes."""
    model, (x, _) = small(), batch()
    flipped = {
        "image": x["image"][:, :, ::-1],
        "proposals": np.stack(
            [
                *(x["proposals"][..., 0], 1 - x["proposals"][..., 3]),
                *(x["proposals"][..., 2], 1 - x["proposals"][..., 1]),
            ],
            axis=-1,
        ),
    }
    before = model.predict(x, verbose=0)
    for layer in model.layers:
        if layer.name.startswith("conv"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel[:, ::-1], bias])
    kernel, bias = model.get_layer("fc6").get_weights()
    kernel = kernel.reshape(4, 4, 10, 12)[:, ::-1].reshape(160, 12)
    model.get_layer("fc6").set_weights([kernel, bias])
    after = model.predict(flipped, verbose=0)
    for name, values in before.items():
        npt.assert_allclose(after[name], values, atol=1e-4)


FORKS = ("image", "conv1", "pool1", "conv2", "conv3", "region_pool", "fc6")


@pytest.mark.parametrize("fork_at", FORKS)
def test_a_tree_of_copies_is_the_detector(fork_at):
    single, (x, _) = small(), batch()
    tree = eh.multi_head(single, fork_at, num_heads=2, copy_weights=True)
    expected, got = single.predict(x, verbose=0), tree.predict(x, verbose=0)
    for name, values in expected.items():
        npt.assert_allclose(got[name], values, atol=1e-5)
    shared = sum(layer.count_params() for layer in tree.trunk.layers)
    assert tree.count_params() == 2 * single.count_params() - shared
    assert (shared > 0) == (fork_at != "image")


def test_a_tree_of_copies_that_forks_twice_is_the_detector():
    single, (x, _) = small(), batch()
    tree = eh.multi_head(single, ["conv1", "conv3"], num_heads=2, copy_weights=True)
    assert tree.num_heads == 4
    expected, got = single.predict(x, verbose=0), tree.predict(x, verbose=0)
    for name, values in expected.items():
        npt.assert_allclose(got[name], values, atol=1e-5)


@pytest.mark.parametrize("width_multiplier", [1.0, 0.5, 1.5])
def test_both_outputs_are_averaged_over_the_heads(width_multiplier):
    x, _ = batch()
    tree = eh.multi_head(
        small(), "conv1", num_heads=3, width_multiplier=width_multiplier
    )
    widths = [round(width_multiplier * base) for base in (8, 10, 12)]
    for head in tree.heads:
        assert [head.get_layer(n).filters for n in ("conv2", "conv3")] == widths[:2]
        assert head.get_layer("fc6").kernel.shape == (16 * widths[1], widths[2])
    got, heads = tree.predict(x, verbose=0), tree.head_predictions(x)
    assert set(heads) == {"classes", "boxes"}
    for name, values in heads.items():
        assert np.ptp(np.array(values), axis=1).max() > 1e-3
        npt.assert_allclose(got[name], np.mean(values, axis=1), atol=1e-5)
    npt.assert_allclose(np.sum(heads["classes"], axis=-1), 1, atol=1e-5)


def test_the_largest_width_within_the_budget():
    single = small(proposals=PROPOSALS)
    tree = eh.multi_head(single, "conv1", width_multiplier="auto", divisor=1)
    assert 0.4 < tree.width_multiplier < 1
    one, other = eh.profile(single), eh.profile(tree)
    assert other.flops <= one.flops and other.parameters <= one.parameters


def test_narrow_copies_keep_the_strongest_channels():
    """A detector whose weaker half of channels does nothing, cut to half its width."""
    single, (x, _) = small(), batch()
    for name in ("conv2", "conv3", "fc6"):
        layer = single.get_layer(name)
        kernel, bias = layer.get_weights()
        kernel[..., 1::2], bias[1::2] = 0, 0
        layer.set_weights([kernel, bias])
    tree = eh.multi_head(single, "conv1", 2, width_multiplier=0.5, copy_weights=True)
    expected, got = single.predict(x, verbose=0), tree.predict(x, verbose=0)
    for name, values in expected.items():
        npt.assert_allclose(got[name], values, atol=1e-4)


ENSEMBLE_LOSSES = {
    "ensembling": eh.losses.Ensembling(-1.0),
    "mean": eh.losses.EnsembleMean("probabilities"),
    "choice": eh.losses.MultipleChoice(1, 0.1),
    "bagging": eh.losses.Bagging(3),
}


def tree_of_two(**changes):
    return eh.multi_head(small(**changes), "conv2", num_heads=2, seed=1)


@pytest.mark.parametrize("name", ENSEMBLE_LOSSES)
def test_trees_train(name):
    x, y = batch(8)
    tree = tree_of_two()
    tree.compile(keras.optimizers.Adam(3e-3), LOSS, ensemble_loss=ENSEMBLE_LOSSES[name])
    logs = tree.fit(x, y, epochs=12, batch_size=8, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    for part in ("loss", "classes_loss", "boxes_loss"):
        assert logs[part][-1] < logs[part][0]


@pytest.mark.parametrize(
    "ensemble_loss",
    [eh.losses.OnTheFly(), eh.losses.MutualLearning(), eh.losses.Modular(0.5)],
    ids=repr,
)
def test_losses_that_are_for_classes_only_say_so(ensemble_loss):
    tree = tree_of_two()
    with pytest.raises(ValueError, match="boxes|box_regression"):
        tree.compile("sgd", LOSS, ensemble_loss=ensemble_loss)


def test_boxes_take_no_prediction_for_a_target():
    tree, (x, y) = tree_of_two(), batch()
    tree.compile("sgd", LOSS, ensemble_loss=eh.losses.CoDistillation(1.0))
    with pytest.raises(ValueError, match="box_regression must take targets"):
        tree.fit(x, y, verbose=0)


def test_a_tree_s_loss_is_the_sum_of_its_heads_losses():
    """By Keras' own evaluation of each head; padding counts nowhere."""
    tree, (x, y) = tree_of_two(), batch(6)
    tree.compile("sgd", LOSS, loss_weights={"classes": 1.0, "boxes": 2.0})
    logs = tree.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    total = {"classes_loss": 0.0, "boxes_loss": 0.0}
    for i in range(2):
        head = tree.head(i)
        said = head.predict(x, verbose=0)
        for name, loss in LOSS.items():
            total[f"{name}_loss"] += float(loss(y[name], said[name]))
    for name, value in total.items():
        assert logs[name] == pytest.approx(value, rel=1e-4)
    weighted = total["classes_loss"] + 2 * total["boxes_loss"]
    assert logs["loss"] == pytest.approx(weighted, rel=1e-4)


def test_files_exports_and_folding(tmp_path):
    tree, (x, y) = tree_of_two(proposals=PROPOSALS), batch()
    tree.compile("adam", LOSS)
    tree.fit(x, y, verbose=0)
    expected = tree.predict(x, verbose=0)
    tree.save(tmp_path / "tree.keras")
    loaded = keras.models.load_model(tmp_path / "tree.keras")
    served = tf.saved_model.load(str(eh.export(tree, tmp_path / "served")))
    answer = served.signatures["serving_default"](
        **{name: tf.constant(values) for name, values in x.items()}
    )
    for name, values in expected.items():
        npt.assert_allclose(loaded.predict(x, verbose=0)[name], values, atol=1e-5)
        npt.assert_allclose(eh.fold_batch_norm(tree)(x)[name], values, atol=1e-5)
        npt.assert_allclose(answer[name], values, atol=1e-5)
    before = tree.evaluate(x, y, verbose=0)
    npt.assert_allclose(loaded.evaluate(x, y, verbose=0), before, rtol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    x, y = batch()
    plain = tree_of_two()
    keras.mixed_precision.set_global_policy(policy)
    tree = tree_of_two()
    tree.set_weights(plain.get_weights())
    got, expected = tree(x), plain(x)
    for name, values in expected.items():
        assert got[name].dtype == tf.float32
        npt.assert_allclose(got[name], values, rtol=0.1, atol=0.1)
    tree.compile(keras.optimizers.Adam(1e-2), LOSS, run_eagerly=True)
    logs = tree.fit(x, y, epochs=4, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]


def test_training_under_xla():
    histories = []
    for jit_compile in (False, True):
        tree, (x, y) = tree_of_two(proposals=PROPOSALS), batch()
        tree.compile(keras.optimizers.SGD(0.01), LOSS, jit_compile=jit_compile)
        histories.append(tree.fit(x, y, epochs=2, verbose=0).history["loss"])
    npt.assert_allclose(*histories, rtol=1e-4)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("fast_rcnn_small", {"bins": 0}, "`bins` must be a positive integer"),
        ("fast_rcnn_small", {"proposals": -1}, "`proposals` must be a .* or None"),
        ("fast_rcnn_small", {"filters": ()}, "`filters` must hold positive integers"),
        ("fast_rcnn_small", {"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        (
            "fast_rcnn_small",
            {"classifier_activation": None},
            "`classifier_activation` must be 'softmax'",
        ),
        ("fast_rcnn_caffenet", {"bins": 2.5}, "`bins` must be a positive integer"),
        ("fast_rcnn_small", {"anchors": 3}, "`anchors` must be a field"),
    ],
)
def test_bad_fields_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **changes)


def test_the_multi_headed_rows():
    tree = zoo.build("fast_rcnn_small_2heads", filters=(4, 6), hidden=(8,))
    assert tree.num_heads == 2 and [n.name for n in tree.heads[0].layers][-1]
    changes = {"filters": (8, 8, 12, 12, 8), "hidden": (16, 12)}
    tree = zoo.build(
        "fast_rcnn_caffenet_5heads", input_shape=(67, 131, 3), classes=3, **changes
    )
    assert tree.num_heads == 5
    x = {"image": np.random.normal(size=(2, 67, 131, 3)), "proposals": boxes(2, 3)}
    x = {name: values.astype("float32") for name, values in x.items()}
    assert {k: v.shape for k, v in tree.predict(x, verbose=0).items()} == {
        "classes": (2, 3, 4),
        "boxes": (2, 3, 12),
    }
    trunk = {layer.name for layer in tree.trunk.layers}
    assert {"conv1", "conv2", "norm2"} <= trunk and "conv3" not in trunk
