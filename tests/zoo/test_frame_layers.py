"""Poolings are their formulas over the real frames, and padding never counts."""

import numpy as np
import pytest
import tensorflow as tf

from tests.zoo import videos
from zoo import frame_layers

POOLINGS = list(frame_layers.POOLINGS)
FEATURES = videos.FEATURES


def pooling(kind, **options):
    layer = frame_layers.POOLINGS[kind](**options)
    layer.build((None, None, FEATURES))
    if layer.weights:
        rng = np.random.default_rng(4)
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def expected(layer, kind, clips):
    kernel = layer.get_weights()[0].astype("float64") if layer.weights else None
    return [videos.pooled(kind, clip.astype("float64"), kernel) for clip in clips]


def mask_of(inputs):
    mask = frame_layers.FrameMask()
    return mask(tf.constant(inputs["num_frames"]), tf.constant(inputs["frames"]))


@pytest.mark.parametrize("length", [6, 9])
@pytest.mark.parametrize("padding", [0.0, 1e30, np.nan, -np.inf])
@pytest.mark.parametrize("kind", POOLINGS)
def test_is_the_formula_over_the_real_frames(kind, padding, length):
    layer, clips = pooling(kind), videos.videos()
    inputs = videos.padded(clips, length, padding)
    found = layer(inputs["frames"], mask=mask_of(inputs))
    np.testing.assert_allclose(found, expected(layer, kind, clips), rtol=2e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_without_a_mask_all_frames_count(kind):
    layer, clips = pooling(kind), videos.videos((5, 5))
    found = layer(np.stack(clips))
    np.testing.assert_allclose(found, expected(layer, kind, clips), rtol=2e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_gradients_are_those_without_padding(kind):
    layer, clips = pooling(kind), videos.videos()

    def gradients(frames, mask):
        with tf.GradientTape() as tape:
            frames = tf.constant(frames)
            tape.watch(frames)
            total = tf.reduce_sum(tf.sin(layer(frames, mask=mask)))
        return tape.gradient(total, [frames, *layer.trainable_weights])

    inputs = videos.padded(clips, 8, np.nan)
    found, *by_weights = gradients(inputs["frames"], mask_of(inputs))
    alone = [gradients(clip[None], None) for clip in clips]
    for row, clip, (own, *_) in zip(found.numpy(), clips, alone, strict=True):
        np.testing.assert_allclose(row[: len(clip)], own[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(row[len(clip) :], 0.0)
    for weight, *parts in zip(by_weights, *(rest for _, *rest in alone), strict=True):
        np.testing.assert_allclose(weight, sum(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_a_video_without_frames_is_zero_with_finite_gradients(kind):
    layer = pooling(kind)
    frames = tf.constant(np.full((1, 3, FEATURES), np.nan, "float32"))
    with tf.GradientTape() as tape:
        tape.watch(frames)
        result = layer(frames, mask=tf.zeros([1, 3], tf.bool))
    np.testing.assert_array_equal(result, np.zeros((1, FEATURES)))
    np.testing.assert_array_equal(tape.gradient(result, frames), np.zeros((1, 3, 12)))
    np.testing.assert_array_equal(layer(tf.zeros([2, 0, FEATURES])), np.zeros((2, 12)))


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-25, 1e-12])
def test_swap_of_nothing_but_zeros_and_of_tiny_values(size):
    frames = tf.fill([1, 4, 3], size)
    with tf.GradientTape() as tape:
        tape.watch(frames)
        result = frames_swap(frames)
    assert np.isfinite(tape.gradient(result, frames)).all()
    np.testing.assert_allclose(result, size, rtol=1e-5, atol=1e-18)


def frames_swap(frames):
    return frame_layers.SelfWeightedAveragePooling()(frames)


def test_swap_by_hand():
    """(|1| 1 + |-3| -3) / 4 = -2, and d/dx_i = (2 |x_i| - sign(x_i) f) / sum |x|."""
    frames = tf.constant([[[1.0, 2.0], [-3.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(frames)
        result = frames_swap(frames)
    np.testing.assert_allclose(result, [[-2.0, 2.0]])
    expected = [[[(2 + 2) / 4, 1.0], [(6 - 2) / 4, 0.0]]]
    np.testing.assert_allclose(tape.gradient(result, frames), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", POOLINGS)
def test_sums_are_in_float32(kind, dtype):
    """300 squares of 60 to 70 are far beyond float16, and bfloat16 has 8 bits."""
    rng = np.random.default_rng(5)
    frames = tf.cast(rng.uniform(60.0, 70.0, (2, 300, FEATURES)), dtype)
    layer = pooling(kind, dtype=dtype)
    found = layer(frames)
    assert found.dtype == dtype
    exact = expected(layer, kind, tf.cast(frames, tf.float64).numpy())
    tolerance = 1e-3 if dtype == "float16" else 4e-3  # of the result's own rounding
    # Attention's weights follow from scores of several hundred, rounded or not.
    tolerance *= 5 if kind == "attention" else 1
    np.testing.assert_allclose(tf.cast(found, tf.float64), exact, rtol=tolerance)


@pytest.mark.parametrize("kind", POOLINGS)
def test_unknown_sizes_and_xla(kind):
    layer = pooling(kind)
    inputs = videos.padded(videos.videos(), 8, np.nan)

    def run(frames, num_frames):
        mask = frame_layers.FrameMask()(num_frames, frames)
        return layer(frames, mask=mask)

    expected = run(**{key: tf.constant(value) for key, value in inputs.items()})
    unknown = tf.function(
        run,
        input_signature=[
            tf.TensorSpec([None, None, FEATURES]),
            tf.TensorSpec([None], tf.int32),
        ],
    )
    np.testing.assert_allclose(unknown(**inputs), expected, rtol=1e-5)
    compiled = tf.function(run, jit_compile=True)
    np.testing.assert_allclose(compiled(**inputs), expected, rtol=1e-5)


def test_frame_mask_of_counts_out_of_range():
    mask = frame_layers.FrameMask()(tf.constant([-1, 0, 2, 9]), tf.zeros([4, 3, 1]))
    np.testing.assert_array_equal(
        tf.reduce_sum(tf.cast(mask, tf.int32), 1), [0, 0, 2, 3]
    )


def test_split_features():
    first, second = frame_layers.SplitFeatures((2, 1))(tf.constant([[1.0, 2.0, 3.0]]))
    np.testing.assert_array_equal(first, [[1.0, 2.0]])
    np.testing.assert_array_equal(second, [[3.0]])
    with pytest.raises(ValueError, match=r"must sum to the last axis.*sizes=\(2, 2\)"):
        frame_layers.SplitFeatures((2, 2))(tf.zeros([1, 3]))
