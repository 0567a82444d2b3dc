"""Region pooling against loops, against TensorFlow's crop, and in low precision."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads.keras_api import keras
from zoo.region_pooling import RegionPooling


def boxes(*shape, seed=0):
    corners = np.random.default_rng(seed).uniform(size=(*shape, 2, 2))
    return np.sort(corners, axis=-2).reshape(*shape, 4).astype("float32")


def interpolated(image, y, x):
    """Bilinear interpolation of `[height, width, channels]` between pixel centres."""
    height, width, _ = image.shape
    y, x = (
        np.clip(y * height - 0.5, 0, height - 1),
        np.clip(x * width - 0.5, 0, width - 1),
    )
    low, left = int(y), int(x)
    high, right = min(low + 1, height - 1), min(left + 1, width - 1)
    upper = (1 - x + left) * image[low, left] + (x - left) * image[low, right]
    lower = (1 - x + left) * image[high, left] + (x - left) * image[high, right]
    return (1 - y + low) * upper + (y - low) * lower


def aligned(features, proposals, size, samples):
    """RoIAlign as loops over bins and points."""
    batch, count = proposals.shape[:2]
    out = np.zeros((batch, count, size, size, features.shape[-1]))
    for i, j, row, column in np.ndindex(batch, count, size, size):
        y1, x1, y2, x2 = proposals[i, j].astype("float64")
        for a, b in np.ndindex(samples, samples):
            y = y1 + (y2 - y1) * (row + (a + 0.5) / samples) / size
            x = x1 + (x2 - x1) * (column + (b + 0.5) / samples) / size
            out[i, j, row, column] += interpolated(features[i], y, x) / samples**2
    return out


@pytest.mark.parametrize("size, samples", [(1, 1), (2, 3), (4, 2)])
def test_pooling_is_the_mean_of_interpolations(size, samples):
    features = np.random.normal(size=(2, 5, 7, 3)).astype("float32")
    proposals = boxes(2, 6)
    proposals[0, 0], proposals[0, 1] = 0, [0, 0, 1, 1]  # padding, and everything
    got = RegionPooling(size, samples)([features, proposals])
    npt.assert_allclose(got, aligned(features, proposals, size, samples), atol=1e-5)


def test_pooling_is_tensorflow_s_crop_and_its_gradient():
    features = tf.random.normal([2, 8, 6, 4])
    proposals = 0.1 + 0.8 * boxes(2, 5)  # off the edges, which it treats in its own way
    size, samples = 3, 2
    layer = RegionPooling(size, samples)

    def cropped(features):
        points, scale = size * samples, np.array([8, 6, 8, 6], "float32")
        low, high = proposals[..., :2], proposals[..., 2:]
        margin = (high - low) / (2 * points)
        within = np.concatenate([low + margin, high - margin], axis=-1)
        within = ((within * scale - 0.5) / (scale - 1)).reshape(-1, 4)
        owners = np.repeat(np.arange(2), 5)
        crops = tf.image.crop_and_resize(features, within, owners, [points, points])
        pooled = tf.nn.avg_pool2d(crops, samples, samples, "VALID")
        return tf.reshape(pooled, [2, 5, size, size, 4])

    results = []
    for function in (lambda x: layer([x, proposals]), cropped):
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = function(features)
            total = tf.reduce_sum(tf.square(pooled))
        results.append((pooled, tape.gradient(total, features)))
    for one, other in zip(*results, strict=True):
        npt.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_boxes_keep_their_bits_in_low_precision():
    """Of 300 pixels, bfloat16 would miss a box's edges by one."""
    features = np.arange(300, dtype="float32").reshape(1, 300, 1, 1) / 300
    proposals = np.array([[[0.701, 0.0, 0.705, 1.0]]], "float32")
    full = RegionPooling(1)([features, proposals]).numpy().item()
    low = RegionPooling(1, dtype="mixed_bfloat16")([features, proposals])
    assert low.dtype == tf.bfloat16
    assert float(tf.cast(low, tf.float32)[0, 0, 0, 0, 0]) == pytest.approx(
        full, abs=3e-3
    )


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 2.5}, {"samples": -1}])
def test_bad_sizes_of_pooling_are_refused(options):
    with pytest.raises(ValueError, match="must be a positive integer"):
        RegionPooling(**{"size": 3, **options})


@pytest.mark.parametrize(
    "shapes", [[(4, 4, 3), (5, 4)], [(4, 4, 3), (5, 5)], [(None, 4, 3), (5, 4)]]
)
def test_bad_inputs_of_pooling_are_refused(shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    if shapes[1] == (5, 4) and None not in shapes[0]:
        inputs = inputs[:1]
    with pytest.raises(ValueError, match="`inputs` must be a feature map"):
        RegionPooling(3)(inputs)
