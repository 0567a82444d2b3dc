"""The library takes all models of videos: surgery, folding, files and serving."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests.narrowing_checks import kill_half_of_the_channels
from tests.zoo import videos

pytestmark = pytest.mark.slow

ALL = list(videos.SMALL)

# Changes of a row, and where it can fork.
FORKS = [
    ("dbof", {}, "frames"),
    ("dbof", {}, "input_bn"),
    ("dbof", {}, "cluster_relu"),
    ("dbof", {"pooling": "attention"}, "cluster_gate"),
    ("dbof", {}, "pooling"),
    ("dbof", {"second_gate": "scores"}, "pooling"),
    ("dbof", {}, "hidden_relu"),
    ("nextvlad", {}, "clear_padding"),
    ("nextvlad", {}, "vlad"),
    ("nextvlad", {"classifier": "moe"}, "dropout"),
    ("nextvlad", {}, "hidden_bn"),
    ("youtube8m_logistic", {}, "features"),
    ("youtube8m_logistic", {"normalization": "batch"}, "normalization"),
    ("youtube8m_moe", {}, "normalization"),
    ("youtube8m_moe_frames", {}, "pooling"),
]
forks = pytest.mark.parametrize("name, changes, fork", FORKS)


@pytest.mark.shared_out
@forks
def test_converts(name, changes, fork):
    single = videos.build(name, **changes)
    inputs = videos.inputs_of(single)
    same = eh.multi_head(single, fork, 2, copy_weights=True)
    np.testing.assert_allclose(same(inputs), single(inputs), rtol=1e-4, atol=1e-6)
    half = eh.multi_head(single, fork, 2, width_multiplier=0.5, seed=1)
    heads = half.head_predictions(inputs)
    assert heads.shape == (4, 2, videos.CLASSES)
    assert np.abs(heads[:, 0] - heads[:, 1]).max() > 1e-3
    for index in range(2):
        np.testing.assert_allclose(half.head(index)(inputs), heads[:, index], rtol=1e-5)
    np.testing.assert_allclose(half(inputs), np.mean(heads, axis=1), rtol=1e-5)


@pytest.mark.shared_out
@pytest.mark.parametrize(
    "name, changes, fork",
    [
        ("dbof", {}, "clear_padding"),
        ("dbof", {"pooling": "attention"}, "input_bn"),
        ("dbof", {"pooling": "max"}, "input_bn"),
        ("dbof", {"second_gate": "scores"}, "pooling"),
        ("dbof", {}, "pooling"),
        ("nextvlad", {"classifier": "moe"}, "vlad"),
    ],
)
def test_narrow_heads_keep_the_same_channels_everywhere(name, changes, fork):
    changes = {"relu_cap": None, **changes} if name == "dbof" else changes
    single = videos.build(name, **changes)
    kill_half_of_the_channels(single, fork)
    # The logits themselves: these weights are so large that probabilities are 1.
    logits = single.get_layer("probabilities").input
    single = keras.Model(single.input, logits)
    inputs = videos.inputs_of(single)
    model = eh.multi_head(single, fork, 2, width_multiplier=0.5, copy_weights=True)
    assert model.count_params() < 2 * single.count_params()
    for index in range(2):
        head = model.head(index)(inputs)
        np.testing.assert_allclose(head, single(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.shared_out
@pytest.mark.parametrize("frames", [None, 6])
@pytest.mark.parametrize("name, fork", [("dbof", "pooling"), ("nextvlad", "vlad")])
def test_auto_width(name, fork, frames):
    """Frames of unknown number belong to the trunk, which is the same in both."""
    single = videos.build(name, frames=frames, hidden=64)
    model = eh.multi_head(single, fork, 2, width_multiplier="auto", divisor=1)
    assert 0.2 < model.width_multiplier < 1
    budget, cost = eh.profile(single), eh.profile(model)
    assert cost.parameters <= budget.parameters and cost.flops <= budget.flops


@pytest.mark.parametrize("name", ALL)
def test_folds_and_is_the_same_again_from_files(name, tmp_path):
    model = videos.build(name)
    inputs = videos.inputs_of(model)
    folded = eh.fold_batch_norm(model)
    assert not eh.profile(model).unfolded_batch_norms
    np.testing.assert_allclose(folded(inputs), model(inputs), rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(inputs), model(inputs), rtol=1e-6)


@pytest.mark.parametrize("name, fork", [("dbof", "pooling"), ("nextvlad", "split")])
def test_exported_model_takes_any_number_of_videos_and_frames(name, fork, tmp_path):
    model = eh.multi_head(videos.build(name), fork, 2, width_multiplier=0.5)
    path = eh.export(model, tmp_path / "1")
    signatures = tf.saved_model.load(path).signatures
    for counts, length in (((6, 3, 1, 4), 6), ((2,), 9), ((0, 300), 300)):
        inputs = videos.padded(videos.videos(counts), length)
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        (served,) = signatures["serving_default"](**tensors).values()
        np.testing.assert_allclose(served, model(inputs), atol=1e-5)
        (heads,) = signatures["heads"](**tensors).values()
        np.testing.assert_allclose(heads, model.head_predictions(inputs), atol=1e-5)
