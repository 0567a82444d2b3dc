"""The library takes the other papers' models of images: surgery, folding, files."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests.narrowing_checks import kill_half_of_the_channels
from tests.zoo.image_models import CLASSES, SMALL, build, images

ALL = list(SMALL)
FORKS = [
    ("cifar10_quick", "images"),
    ("cifar10_quick", "relu1"),
    ("cifar10_quick", "pool2"),
    ("nin_cifar", "images"),
    ("nin_cifar", "cccp1"),
    ("nin_cifar", "drop1"),
    ("nin_imagenet", "conv2"),
    ("nin_imagenet", "cccp3"),
    ("caffenet", "images"),
    ("caffenet", "norm1"),
    ("caffenet", "conv3"),
    ("mlp_1m_1024h", "images"),
    ("mlp_1m_1024h", "flatten"),
    ("small_cnn", "images"),
    ("small_cnn", "conv2"),
    ("densenet_bc_100_12", "images"),
    ("densenet_bc_100_12", "block1_unit1_concat"),
    ("densenet_bc_100_12", "transition2"),
    ("resnext29_8x64d", "images"),
    ("resnext29_8x64d", "stage2"),
]


@pytest.mark.parametrize("name, fork", FORKS)
def test_converts(name, fork):
    single = build(name)
    x = images(single)
    same = eh.multi_head(single, fork, 2, copy_weights=True)
    np.testing.assert_allclose(same(x), single(x), rtol=1e-3, atol=1e-5)
    half = eh.multi_head(single, fork, 2, width_multiplier=0.5, seed=1)
    assert half.count_params() < same.count_params()
    heads = half.head_predictions(x)
    assert heads.shape == (len(x), 2, CLASSES)
    # As Caffe draws them, two networks differ by little.
    assert np.abs(heads[:, 0] - heads[:, 1]).max() > 1e-7
    for index in range(2):
        np.testing.assert_allclose(half.head(index)(x), heads[:, index], rtol=1e-4)
    np.testing.assert_allclose(half(x), np.mean(heads, axis=1), rtol=1e-4)


# Not CaffeNet from below `norm2`: other channels are neighbours in narrow heads.
@pytest.mark.parametrize(
    "name, fork",
    [
        ("cifar10_quick", "images"),
        ("nin_cifar", "cccp1"),
        ("nin_imagenet", "images"),
        ("caffenet", "norm2"),
        ("mlp_1m_1024h", "flatten"),
        ("small_cnn", "images"),
        ("densenet_bc_100_12", "images"),
        ("densenet_bc_100_12", "transition1"),
        ("resnext29_8x64d", "stage1"),
    ],
)
def test_narrow_heads_keep_the_same_channels_everywhere(name, fork):
    single = build(name, classifier_activation=None)
    kill_half_of_the_channels(single, fork)
    x = images(single)
    expected = np.array(single(x))
    model = eh.multi_head(single, fork, 2, width_multiplier=0.5, copy_weights=True)
    assert model.count_params() < 2 * single.count_params()
    for index in range(2):
        head = model.head(index)(x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(head, expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(
    "name, fork",
    [
        ("cifar10_quick", "relu1"),
        ("nin_cifar", "cccp2"),
        ("caffenet", "norm1"),
        ("mlp_1m_1024h", "flatten"),
        ("small_cnn", "conv1"),
        ("densenet_bc_100_12", "transition1"),
        ("resnext29_8x64d", "stage1"),
    ],
)
def test_auto_width(name, fork):
    single = build(name)
    model = eh.multi_head(single, fork, 2, width_multiplier="auto", divisor=1)
    assert 0.2 < model.width_multiplier < 1
    budget, cost = eh.profile(single), eh.profile(model)
    assert cost.parameters <= budget.parameters and cost.flops <= budget.flops


@pytest.mark.parametrize("name", ["densenet_bc_100_12", "resnext29_8x64d"])
def test_folds(name):
    """Of DenseNet stay the batch norms between a concatenation and a ReLU."""
    model = build(name)
    folded = eh.fold_batch_norm(model)
    x = images(model)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-3, atol=1e-5)
    left = {found.name for found in eh.profile(model).unfolded_batch_norms}
    if name == "resnext29_8x64d":
        assert not left
        return
    units = [f"block{b}_unit{u}_bn1" for b in (1, 2, 3) for u in (1, 2)]
    expected = {*units, "transition1_bn", "transition2_bn", "top_bn"}
    # The very first one stands behind the first convolution alone, which a
    # concatenation takes as well.
    assert left == expected


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_mixed_precision(name, policy):
    full = build(name)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(name)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.set_weights(full.get_weights())
    x = images(model)
    outputs = model(x)
    assert outputs.dtype == tf.float32
    assert model.layers[-2].compute_dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(outputs, full(x), atol=0.1)
    np.testing.assert_allclose(np.sum(outputs, axis=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_is_the_same_again_from_a_file(name, tmp_path):
    model = build(name)
    x = images(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name, fork", [("caffenet", "norm1"), ("small_cnn", "images")])
def test_exports(name, fork, tmp_path):
    model = eh.multi_head(build(name), fork, 2, width_multiplier=0.5, name="tree")
    path = eh.export(model, tmp_path / "1")
    signatures = tf.saved_model.load(path).signatures
    for batch in (1, 3):
        x = images(model.trunk, batch)
        (served,) = signatures["serving_default"](images=tf.constant(x)).values()
        np.testing.assert_allclose(served, model(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name, also", [("caffenet", ()), ("cifar10_quick", ("bias",)), ("nin_cifar", ())]
)
def test_decay_is_on_kernels_as_in_the_definitions(name, also):
    check_decay(build(name, weight_decay=0.02), ("kernel", *also))


@pytest.mark.parametrize("name", ["densenet_bc_100_12", "resnext29_8x64d"])
def test_decay_is_on_kernels_and_gammas(name):
    check_decay(build(name, weight_decay=0.02), ("kernel", "gamma"))


@pytest.mark.parametrize("name", ["mlp_1m_1024h", "small_cnn"])
def test_no_decay_in_joint_training_unless_asked_for(name):
    assert not build(name).losses
    check_decay(build(name, weight_decay=0.02), ("kernel",))


def check_decay(model, keys):
    counted = [
        weight
        for layer in model.layers
        for key in keys
        if (weight := getattr(layer, key, None)) is not None
    ]
    assert len(counted) == len(model.losses)
    expected = 0.01 * sum(np.sum(np.square(w.numpy(), dtype="f8")) for w in counted)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["caffenet", "densenet_bc_100_12", "resnext29_8x64d"])
def test_trains(name):
    model = build(name)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    x, y = images(model, 8), np.arange(8) % CLASSES
    before = model.get_weights()
    history = model.fit(x, y, epochs=6, verbose=0).history["loss"]
    assert min(history[1:]) < history[0] and np.isfinite(history).all()
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0
