"""The other papers' models of images: precision, files, weight decay and training."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.image_models import CLASSES, SMALL, build, images, scatter

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

ALL = list(SMALL)


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


@pytest.mark.parametrize(
    "row, small",
    [
        ("small_cnn_10heads", "small_cnn"),
        ("mlp_16m_64h", "mlp_1m_1024h"),
        ("densenet_bc_64_6_16heads", "densenet_bc_100_12"),
        ("densenet_bc_190_40_3heads", "densenet_bc_100_12"),
        ("resnext29_8x64d_3heads", "resnext29_8x64d"),
        ("nin_imagenet_4heads", "nin_imagenet"),
        ("caffenet_5heads", "caffenet"),
    ],
)
def test_multi_headed_rows(row, small, tmp_path):
    """Half precision, folding and a file, of trunks without any layer as well."""
    changes = {**SMALL[small], "classes": CLASSES, "num_heads": 2}
    full = zoo.build(row, **changes)
    for seed, part in enumerate([full.trunk, *full.heads]):
        scatter(part, seed)
    x = images(full.trunk)
    expected = full.head_predictions(x)
    assert np.abs(expected[:, 0] - expected[:, 1]).max() > 1e-3
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        half = zoo.build(row, **changes)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    half.set_weights(full.get_weights())
    assert half(x).dtype == tf.float32
    np.testing.assert_allclose(half(x), full(x), atol=0.1)
    folded = eh.fold_batch_norm(full)
    np.testing.assert_allclose(folded(x), full(x), rtol=1e-3, atol=1e-5)
    full.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.head_predictions(x), expected, rtol=1e-5)
