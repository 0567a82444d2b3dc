"""NeXtVLAD: its formula, the size of its public code, and its errors."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from tests.zoo import sizes, videos
from zoo.vlad import GroupedVLAD

COUNTS = sizes.stored("youtube8m_counts.csv")


def aggregate(model, name, x, groups):
    """One stream of one video, frame by frame and group by group."""
    kernel, bias = videos.weights(model, f"{name}_expansion")
    x = x @ kernel + bias
    kernel, bias = videos.weights(model, f"{name}_attention")
    attention = videos.sigmoid(x @ kernel + bias)
    logits = x @ videos.weights(model, f"{name}_assignment")[0]
    logits = videos.normalised(model, f"{name}_assignment_bn", logits)
    (centers,) = videos.weights(model, f"{name}_vlad")
    size, clusters = centers.shape
    vlad = np.zeros((size, clusters))
    for frame in range(len(x)):
        for group in range(groups):
            part = x[frame, group * size : (group + 1) * size]
            share = logits[frame, group * clusters : (group + 1) * clusters]
            share = attention[frame, group] * videos.softmax(share)
            vlad += share * (part[:, None] - centers)
    return (vlad / np.linalg.norm(vlad, axis=0)).reshape(-1)


def forward(model, clip, feature_sizes, groups):
    images, sound = np.split(clip.astype("float64"), feature_sizes[:1], axis=1)
    x = np.concatenate(
        [
            aggregate(model, "images", images, groups[0]),
            aggregate(model, "sound", sound, groups[1]),
        ]
    )
    x = videos.normalised(model, "vlad_bn", x)
    x = videos.normalised(model, "hidden_bn", x @ videos.weights(model, "hidden")[0])
    gate = x @ videos.weights(model, "gate_squeeze")[0]
    gate = np.maximum(videos.normalised(model, "gate_bn", gate), 0)
    x = x * videos.sigmoid(gate @ videos.weights(model, "gate_excite")[0])
    kernel, bias = videos.weights(model, "classifier")
    return videos.sigmoid(x @ kernel + bias)


def test_is_the_formula():
    model = videos.build("nextvlad")
    spec = videos.SMALL["nextvlad"]
    clips = videos.videos()
    found = model(videos.padded(clips, 7, 5.0))
    for row, clip in zip(found, clips, strict=True):
        exact = forward(model, clip, spec["feature_sizes"], spec["groups"])
        np.testing.assert_allclose(row, exact, rtol=1e-3, atol=1e-5)


def by_hand(spec):
    """Trainable, total and folded parameters, from the layers of the public code."""
    kernels = biases = norms = folded_norms = joined = 0
    for size, clusters, groups in zip(
        spec["feature_sizes"], spec["clusters"], spec["groups"]
    ):
        expanded = 2 * size
        kernels += size * expanded + expanded * groups + expanded * groups * clusters
        kernels += expanded // groups * clusters  # centres
        biases += expanded + groups
        folded_norms += groups * clusters
        joined += expanded // groups * clusters
    hidden, classes = spec["hidden"], spec["classes"]
    squeezed = hidden // spec["reduction"]
    kernels += joined * hidden + 2 * hidden * squeezed + hidden * classes
    biases += classes
    folded_norms += hidden + squeezed
    norms = joined + folded_norms
    # The batch norm of the aggregate goes into the hidden layer, as that one's own.
    trainable = kernels + biases + 2 * norms
    counts = (trainable, trainable + 2 * norms, kernels + biases + folded_norms)
    return dict(zip(sizes.COLUMNS, counts, strict=True))


def test_counts():
    spec = videos.SMALL["nextvlad"]
    assert sizes.profiled(videos.build("nextvlad")) == by_hand(spec)


def test_size_of_the_public_code():
    """88.9 M at 8 groups, expansion 2, 128 clusters, 2048 hidden units, reduction 8."""
    full = {"feature_sizes": (1024, 128), "clusters": (128, 64), "groups": (8, 4)}
    full |= {"hidden": 2048, "reduction": 8, "classes": 3862}
    assert by_hand(full) == COUNTS["nextvlad"]
    assert COUNTS["nextvlad"]["trainable"] == 88_889_378


@pytest.mark.line("2.21")
def test_counts_as_measured():
    assert sizes.profiled(zoo.build("nextvlad")) == COUNTS["nextvlad"]


def test_narrower_heads_keep_groups():
    """Features of a group and clusters shrink; groups and attention do not."""
    single = videos.build("nextvlad", clusters=(6, 4))
    model = eh.multi_head(single, "split", 2, width_multiplier=0.5)
    head = model.heads[0]
    assert head.get_layer("images_expansion").units == 8
    assert head.get_layer("images_attention").units == 4
    assert head.get_layer("images_assignment").units == 4 * 3
    assert head.get_layer("images_vlad").centers.shape == (2, 3)
    assert head.get_layer("hidden").units == 8
    assert head.get_layer("gate_squeeze").units == 2


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"groups": (3, 2)}, "`groups` must divide `expansion` times `feature_sizes`"),
        ({"clusters": (8,)}, "`clusters` must be two positive integers"),
        ({"feature_sizes": 12}, "`feature_sizes` must be a tuple"),
        ({"classifier": "softmax"}, "`classifier` must be one of 'logistic', 'moe'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"l2": -1}, "`l2` must not be negative"),
        ({"hidden": 0}, "`hidden` must be a positive integer"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("nextvlad", **changes)


@pytest.mark.parametrize("sizes_of", [(7, 2, 4), (8, 3, 4), (8, 2, 5)])
def test_groups_must_fit(sizes_of):
    parts = [tf.zeros([1, 2, size]) for size in sizes_of]
    with pytest.raises(ValueError, match="`groups` must be .* Received: groups=2"):
        GroupedVLAD(2)(parts)
