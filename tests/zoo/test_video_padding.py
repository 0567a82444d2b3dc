"""Padding never counts, in inference or in training, whatever it holds."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads.keras_api import keras
from tests.zoo import videos

OF_FRAMES = ["dbof", "nextvlad", "youtube8m_logistic_frames", "youtube8m_moe_frames"]


def variants(name):
    if name == "dbof":
        for pooling in ("swap", "average", "max", "attention"):
            yield name, {"pooling": pooling}
        yield name, {"second_gate": "scores", "unit_length": True}
    elif name == "nextvlad":
        # Dropout draws anew for every batch.
        yield name, {"dropout": 0.0}
    elif name.endswith("logistic_frames"):
        yield name, {"normalization": "batch"}
    yield name, {"dropout": 0.0} if name == "nextvlad" else {}


PADDED = [case for name in OF_FRAMES for case in variants(name)]


def gradients_and_statistics(model, inputs, target):
    """Output and gradients of a training step, and the weights that it leaves."""
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = tf.reduce_mean(keras.losses.binary_crossentropy(target, outputs))
    gradients = tape.gradient(loss, model.trainable_weights)
    return [outputs, *gradients], [w.numpy() for w in model.non_trainable_weights]


@pytest.mark.shared_out
@pytest.mark.parametrize("name, changes", PADDED)
def test_padding_does_not_count(name, changes):
    """Also in training, whatever is in it: NaN would show anywhere."""
    clips, target = videos.videos(), videos.labels()
    weights = videos.build(name, **changes).get_weights()
    results = []
    for length, value in ((6, 0.0), (11, 0.0), (9, np.nan)):
        model = videos.build(name, **changes)
        model.set_weights(weights)
        inputs = videos.padded(clips, length, value)
        inference = model(inputs)
        trained, statistics = gradients_and_statistics(model, inputs, target)
        results.append([inference, *trained, *statistics])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", OF_FRAMES)
def test_a_video_alone_is_what_it_is_in_a_batch(name):
    model = videos.build(name)
    together = model(videos.padded(videos.videos(), 8, 1e6))
    for row, clip in zip(together, videos.videos(), strict=True):
        alone = model(videos.padded([clip], len(clip)))[0]
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.shared_out
@pytest.mark.parametrize("name, changes", PADDED)
@pytest.mark.parametrize("counts", [(3, 0), (0, 0)])
def test_videos_without_frames_are_finite(name, changes, counts):
    model = videos.build(name, **changes)
    inputs = videos.padded(videos.videos(counts), 4, np.nan)
    assert np.isfinite(model(inputs)).all()
    trained, statistics = gradients_and_statistics(model, inputs, videos.labels()[:2])
    assert all(np.isfinite(part).all() for part in [*trained, *statistics])


def test_unit_length_of_zeros_is_finite_in_16_bits():
    """1e-12, which keeps the norm of zeros from 0, is 0 itself in float16."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = videos.build("dbof", unit_length=True)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    inputs = {"frames": np.zeros((2, 3, 12), "f"), "num_frames": np.array([3, 1])}
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
    gradients = tape.gradient(outputs, model.trainable_weights)
    assert np.isfinite(outputs).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
