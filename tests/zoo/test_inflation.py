"""Inflation: a video of equal frames has the features of the image, or an error."""

import numpy as np
import pytest

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.s3dg_models import build, clips
from zoo.inflation import TemporalIdentity

GATELESS = {"gates": "none"}


def static(images, frames):
    """A clip of equal frames of each image."""
    return np.repeat(images[:, np.newaxis], frames, axis=1)


def upto(model, name):
    return keras.Model(model.input, model.get_layer(name).output)


def test_static_clips_are_the_image():
    """Exactly, where only the first convolution could see past the ends in time."""
    images = build("inception_v1", seed=5)
    videos = build(first_kernel=1, **GATELESS)
    x = clips((32, 32, 3))
    before = np.array(videos(static(x, 8)))
    assert zoo.inflate(images, videos) == ()
    expected = images(x)
    np.testing.assert_allclose(videos(static(x, 8)), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(before - expected).max() > 1e-2


def test_full_kernels_away_from_the_ends():
    """Of 16 steps in time five convolutions of width 3 spoil two or three at an end."""
    images = build("inception_v1", seed=5)
    videos = build(
        input_shape=(32, 32, 32, 3), first_kernel=5, separable=False, **GATELESS
    )
    zoo.inflate(images, videos)
    kernel = videos.get_layer("conv_1a").get_weights()[0]
    assert np.ptp(kernel, axis=0).max() == 0
    x = clips((32, 32, 3))
    found = np.array(upto(videos, "mixed_3b")(static(x, 32)))
    expected = np.array(upto(images, "mixed_3b")(x))
    assert found.shape[1] == 16
    inside = found[:, 4:-4]
    scale = np.abs(expected).max()
    wanted = static(expected, inside.shape[1])
    np.testing.assert_allclose(inside, wanted, rtol=1e-3, atol=1e-5 * scale)
    assert np.abs(found[:, 0] - expected).max() > 1e-2 * scale


def test_gates_and_what_is_kept():
    """Another classifier and the gates stay; trained temporal halves are reset."""
    images = build("inception_v1", seed=5, classes=11)
    videos = build(gates="outputs")
    kept = ["classifier", "conv_2c_gate_conv", "mixed_5b_3_gate_conv"]
    before = {name: videos.get_layer(name).get_weights() for name in kept}
    returned = zoo.inflate(images, videos, keep=["classifier"])
    assert set(kept) <= set(returned) and len(returned) == 1 + 1 + 3 * 4
    for name, weights in before.items():
        for old, new in zip(weights, videos.get_layer(name).get_weights()):
            np.testing.assert_array_equal(old, new)
    kernel, bias = videos.get_layer("mixed_4b_1_temporal").get_weights()
    zeros = np.zeros((9, 9))
    np.testing.assert_array_equal(kernel[:, 0, 0], [zeros, np.eye(9), zeros])
    assert not bias.any()
    first, second = (m.get_layer("conv_2b_bn").get_weights() for m in (images, videos))
    np.testing.assert_array_equal(first, second)


def test_heads_of_an_inflated_model():
    images = build("inception_v1", seed=5)
    videos = build(first_kernel=1, **GATELESS)
    zoo.inflate(images, videos)
    model = eh.multi_head(videos, "pool_4a", 2, copy_weights=True)
    x = clips((32, 32, 3))
    np.testing.assert_allclose(model(static(x, 8)), images(x), rtol=1e-3, atol=1e-5)


def test_identity_of_any_length():
    """On padding "same" and stride 1; of an even kernel as well."""
    for frames in (1, 2, 3, 4, 5):
        layer = keras.layers.Conv3D(
            3,
            (frames, 1, 1),
            padding="same",
            kernel_initializer=TemporalIdentity(),
        )
        x = np.random.normal(size=(2, 6, 2, 2, 3)).astype("float32")
        np.testing.assert_allclose(layer(x), x, rtol=1e-6)
    with pytest.raises(ValueError, match=r"Received: shape=\(3, 3, 1, 2, 2\)"):
        TemporalIdentity()((3, 3, 1, 2, 2))


def image_of(widths=(4, 5), name="second"):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(widths[0], 3, name="first")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(widths[1], 3, name=name)(x))


def video_of(kind="dense"):
    """Two convolutions, and a layer that no image model here has."""
    inputs = keras.Input((6, 8, 8, 3))
    x = keras.layers.Conv3D(4, 3, name="first")(inputs)
    x = keras.layers.Conv3D(5, 3, name="second")(x)
    last = {
        "dense": keras.layers.Dense(2, name="third"),
        "strided": keras.layers.Conv3D(5, (2, 1, 1), (2, 1, 1), name="third"),
        "pointwise": keras.layers.Conv3D(5, 1, use_bias=False, name="third"),
        "norm": keras.layers.BatchNormalization(name="third"),
        "none": keras.layers.ReLU(),
    }[kind]
    return keras.Model(inputs, last(x))


@pytest.mark.parametrize(
    "image, video, keep, message",
    [
        ({"widths": (4, 6)}, "none", (), "shapes of the video model: layer `second`"),
        ({"name": "other"}, "none", (), "`video_model` must have a layer `other`"),
        *(
            ({}, kind, (), "`image_model` must have a layer `third`")
            for kind in ("dense", "strided", "pointwise", "norm")
        ),
        ({}, "dense", ["thrid"], "`keep` must name layers .* Closest: third"),
        ({}, "dense", "third", "`keep` must be a list of names"),
    ],
)
def test_errors_leave_the_model_as_it_is(image, video, keep, message):
    videos = video_of(video)
    before = videos.get_weights()
    with pytest.raises(ValueError, match=message):
        zoo.inflate(image_of(**image), videos, keep)
    for old, new in zip(before, videos.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    if video == "dense" and not keep:
        assert zoo.inflate(image_of(), videos, ["third"]) == ("third",)


def test_refuses_heads():
    model = eh.multi_head(video_of(), "first", 2)
    with pytest.raises(ValueError, match="`video_model` must be a plain keras.Model"):
        zoo.inflate(image_of(), model)
