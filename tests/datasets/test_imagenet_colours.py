"""Changes of colours, against colorsys and NumPy."""

import colorsys
import sys

import numpy as np
import pytest
import tensorflow as tf

from datasets.imagenet_colours import COLOUR_NUMBERS, Colours
from ensemble_heads.keras_api import keras

KINDS = ("brightness", "contrast", "saturation", "hue")
STRENGTHS = {"brightness": 0.1, "contrast": 0.5, "saturation": 0.4, "hue": 0.2}


@pytest.fixture
def image():
    return np.random.default_rng(0).uniform(0, 255, (5, 6, 3)).astype(np.float32)


def changed(image, kind, amount):
    """By the definition in `Colours`; amount in [-1, 1)."""
    value = STRENGTHS[kind] * amount
    if kind == "brightness":
        return np.clip(image + 255 * value, 0, 255)
    if kind == "contrast":
        means = image.mean(axis=(0, 1))
        return np.clip((image - means) * (1 + value) + means, 0, 255)
    flat = []
    for pixel in image.reshape(-1, 3) / 255:
        hue, saturation, level = colorsys.rgb_to_hsv(*pixel)
        if kind == "saturation":
            saturation = min(1.0, saturation * (1 + value))
        else:
            hue = (hue + value) % 1.0
        flat.append(colorsys.hsv_to_rgb(hue, saturation, level))
    return 255 * np.reshape(flat, image.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_each_change_is_as_defined(image, kind, share):
    only = dict.fromkeys(KINDS, 0.0) | {kind: STRENGTHS[kind]}
    numbers = tf.fill([COLOUR_NUMBERS], share)
    found = Colours(**only).changes()(tf.constant(image), numbers)
    expected = changed(image, kind, 2 * share - 1)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    assert np.abs(expected - image).max() > 5


def test_changes_come_in_the_order_drawn(image):
    change = tf.function(Colours(**STRENGTHS).changes())
    random, orders = np.random.default_rng(1), set()
    for _ in range(12):
        numbers = random.random(COLOUR_NUMBERS, np.float32)
        order = np.argsort(numbers[4:])
        expected = image
        for index in order:
            expected = changed(expected, KINDS[index], 2 * float(numbers[index]) - 1)
        found = change(tf.constant(image), tf.constant(numbers))
        np.testing.assert_allclose(found, expected, atol=5e-2)
        orders.add(tuple(order))
    assert len(orders) > 6


def test_mixed_precision_of_the_model_leaves_images_alone(image):
    numbers = tf.fill([COLOUR_NUMBERS], 0.7)
    expected = Colours(**STRENGTHS).changes()(tf.constant(image), numbers)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    found = Colours(**STRENGTHS).changes()(tf.constant(image), numbers)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, expected)


def test_nothing_is_changed_where_nothing_is_asked_for(image, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)  # not even imported
    nothing = Colours(0, 0, 0, 0).changes()
    np.testing.assert_array_equal(nothing(image, np.zeros(COLOUR_NUMBERS)), image)
    with pytest.raises(ImportError, match="colours=None"):
        Colours().changes()


@pytest.mark.parametrize("kind, value", [("contrast", -0.1), ("hue", 0.6)])
def test_strengths_out_of_range(kind, value):
    with pytest.raises(ValueError, match=rf"`{kind}` must be in \[0, .*{kind}={value}"):
        Colours(**{kind: value})
