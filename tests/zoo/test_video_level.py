"""The baselines on mean features: their formulas, sizes and errors."""

import numpy as np
import pytest

import ensemble_heads as eh
import zoo
from tests.zoo import sizes, videos

COUNTS = sizes.stored("youtube8m_counts.csv")
ROWS = list(zoo.video_level.SPECS)


def forward(model, x):
    if "moe" in model.name:
        return videos.mixture(model, x)
    kernel, bias = videos.weights(model, "classifier")
    return videos.sigmoid(x @ kernel + bias)


@pytest.mark.parametrize("normalization", ["unit_length", "batch", "none"])
@pytest.mark.parametrize("name", ROWS)
def test_is_the_formula(name, normalization):
    model = videos.build(name, normalization=normalization)

    def normalised(x):
        if normalization == "batch":
            return videos.normalised(model, "normalization", x)
        return videos.unit_length(x) if normalization == "unit_length" else x

    clips = [clip.astype("float64") for clip in videos.videos()]
    if name.endswith("frames"):
        inputs = videos.padded(videos.videos(), 8, -3.0)
        x = np.stack([normalised(clip).mean(0) for clip in clips])
    else:
        inputs = {"features": np.stack([clip.mean(0) for clip in clips])}
        x = normalised(inputs["features"])
    np.testing.assert_allclose(model(inputs), forward(model, x), rtol=1e-4)


def test_without_normalization_frames_and_their_mean_are_the_same_input():
    """So a classifier trained on video-level files runs on frame-level ones."""
    options = {"normalization": "none"}
    for kind in ("logistic", "moe"):
        of_means = videos.build(f"youtube8m_{kind}", **options)
        of_frames = videos.build(f"youtube8m_{kind}_frames", **options)
        of_frames.set_weights(of_means.get_weights())
        means = np.stack([clip.mean(0) for clip in videos.videos()])
        found = of_frames(videos.padded(videos.videos(), 9))
        np.testing.assert_allclose(found, of_means({"features": means}), rtol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_counts(name):
    model = zoo.build(name)
    kernels = 1152 * 3862 * (5 if "moe" in name else 1)
    biases = 3862 * (2 if "moe" in name else 1)
    assert COUNTS[name] == dict.fromkeys(sizes.COLUMNS, kernels + biases)
    assert sizes.size(model.trainable_weights) == kernels + biases
    assert sizes.size(model.weights) == kernels + biases


def test_auto_says_that_there_is_nothing_to_narrow():
    model = videos.build("youtube8m_logistic")
    with pytest.raises(ValueError, match="even the narrowest 2 heads exceed"):
        eh.multi_head(model, "normalization", 2, width_multiplier="auto")


def test_nothing_comes_after_the_classifier():
    with pytest.raises(ValueError, match="nothing depends on the output"):
        eh.multi_head(videos.build("youtube8m_logistic"), "classifier")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classifier": "mlp"}, "`classifier` must be one of 'logistic', 'moe'"),
        ({"pooling": "sum"}, "`pooling` must be one of None, 'swap'"),
        ({"normalization": None}, "`normalization` must be one of 'unit_length'"),
        ({"num_experts": 0}, "`num_experts` must be a positive integer"),
        ({"frames": 0}, "`frames` must be a positive integer or None"),
        ({"l2": -1}, "`l2` must not be negative"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("youtube8m_moe", **changes)
