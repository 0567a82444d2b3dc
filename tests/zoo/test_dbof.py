"""Deep bag of frames: its formula, Table 2 to the printed digit, and its errors."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo import sizes, videos
from zoo.frame_inputs import input_shape

COUNTS = sizes.stored("youtube8m_counts.csv")


def forward(model, spec, clip):
    """The probabilities of one video, in float64, written from the paper alone."""
    x = clip.astype("float64")
    if spec["unit_length"]:
        x = videos.unit_length(x)
    x = videos.normalised(model, "input_bn", x)
    x = x @ videos.weights(model, "cluster")[0]
    x = np.clip(videos.normalised(model, "cluster_bn", x), 0, spec["relu_cap"])
    x = videos.gated(model, "cluster_gate", x)
    attention = videos.weights(model, "pooling")
    x = videos.pooled(spec["pooling"], x, *attention)[None]
    x = x @ videos.weights(model, "hidden")[0]
    x = np.clip(videos.normalised(model, "hidden_bn", x), 0, spec["relu_cap"])
    if spec["second_gate"] == "hidden":
        x = videos.gated(model, "hidden_gate", x)
    scores = videos.mixture(model, x)
    if spec["second_gate"] == "scores":
        scores = videos.gated(model, "score_gate", scores)
    return scores[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pooling": "average"},
        {"pooling": "max", "second_gate": "none"},
        {"pooling": "attention", "relu_cap": 1.0},
        {"second_gate": "scores", "relu_cap": None},
        {"unit_length": True, "num_experts": 3},
    ],
)
def test_is_the_formula(changes):
    model = videos.build("dbof", **changes)
    spec = {"relu_cap": 6.0, "pooling": "swap", "second_gate": "hidden"}
    spec |= {"unit_length": False, **changes}
    clips = videos.videos()
    found = model(videos.padded(clips, 7, 5.0))
    exact = [forward(model, spec, clip) for clip in clips]
    assert np.std(exact) > 0.05
    np.testing.assert_allclose(found, exact, rtol=5e-4, atol=1e-6)


def test_inputs_and_outputs():
    model = videos.build("dbof")
    assert {k: tuple(v.shape) for k, v in model.input.items()} == {
        "frames": (None, None, 12),
        "num_frames": (None,),
    }
    assert model.output_shape == (None, 7)
    assert videos.build("dbof", frames=9).input["frames"].shape[1] == 9


# ---- Sizes by hand


class ByHand:
    """Counts of a deep bag of frames: kernels, batch norms, biases of the experts."""

    def __init__(self, spec, heads=1, hidden=None, experts=None):
        features, cluster = spec["feature_size"], spec["cluster"]
        hidden = hidden or spec["hidden"]
        experts = experts or spec["num_experts"]
        classes = spec["classes"]
        below = features * cluster + cluster**2
        above = cluster * hidden + hidden**2 + (2 * experts + 1) * classes * hidden
        biases = heads * experts * classes
        norms = 2 * cluster + heads * 2 * hidden
        kernels = below + heads * above
        self.trainable = kernels + biases + 2 * (features + norms)
        self.total = self.trainable + 2 * (features + norms)
        self.folded = kernels + biases + norms
        self.products_above = 2 * heads * above
        self.products_a_frame = 2 * below


def counts_of(by_hand):
    return {key: getattr(by_hand, key) for key in sizes.COLUMNS}


PAPER = {"feature_size": 1152, "classes": 3862, "cluster": 4096, "hidden": 4096}
PAPER |= {"num_experts": 5}

# EnsembleNet Table 2: heads, what changes in them, parameters, FLOPs.
TABLE_2 = {
    "dbof": ({}, "229M", "415M"),
    "dbof_2heads": ({"heads": 2, "hidden": 3000, "experts": 3}, "226M", "410M"),
}


def millions(value):
    return f"{value / 1e6:.0f}M"


@pytest.mark.parametrize("name", TABLE_2)
def test_table_2_by_hand(name):
    changes, parameters, flops = TABLE_2[name]
    by_hand = ByHand(PAPER, **changes)
    assert COUNTS[name] == counts_of(by_hand)
    assert millions(by_hand.folded) == parameters
    assert millions(by_hand.products_above) == flops


def test_counts_of_a_small_one():
    spec = videos.SMALL["dbof"]
    assert sizes.profiled(videos.build("dbof")) == counts_of(ByHand(spec))
    model = zoo.build("dbof_2heads", **spec)
    hidden = round(20 * 3000 / 4096)
    assert [head.get_layer("hidden").units for head in model.heads] == [hidden] * 2
    expected = counts_of(ByHand(spec, heads=2, hidden=hidden, experts=3))
    assert sizes.profiled(model) == expected


def test_flops_of_a_small_one():
    """Products by hand exactly; elementwise operations are what is left."""
    spec, model = videos.SMALL["dbof"], videos.build("dbof")
    by_hand, unknown = ByHand(spec), eh.profile(model)
    rows = {row.name: row.flops for row in unknown.rows}
    assert not any(rows[key] for key in ("cluster", "cluster_gate_dense"))
    assert 0 < unknown.flops - by_hand.products_above < 500
    named = {op.layer for op in unknown.uncounted if op.reason == "unknown dimension"}
    frame_level = {"frame_mask", "cluster", "cluster_gate_dense", "cluster_gate"}
    assert named == frame_level | {"pooling"}
    for frames in (5, 25):
        profile = eh.profile(model, input_shape=input_shape(model, frames))
        assert "unknown dimension" not in {op.reason for op in profile.uncounted}
        rows = {row.name: row.flops for row in profile.rows}
        products = rows["cluster"] + rows["cluster_gate_dense"]
        biases = frames * 2 * spec["cluster"]
        assert products == frames * by_hand.products_a_frame + biases
        fixed = videos.build("dbof", frames=frames)
        assert eh.profile(fixed).flops == profile.flops
        per_element = (profile.flops - unknown.flops - products) / frames
        assert 0 < per_element < 8 * spec["cluster"]


@pytest.fixture
def cheap_weights(monkeypatch):
    """Zeros for random weights, which at these sizes take long to draw."""

    def zeros(self, shape, dtype=None, **_):
        return tf.zeros(shape, dtype or "float32")

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)


@pytest.mark.line("2.21")
@pytest.mark.parametrize("name", TABLE_2)
def test_table_2_as_measured(name, cheap_weights):
    """The FLOPs that the paper prints are those after the pooling."""
    changes, parameters, flops = TABLE_2[name]
    model, by_hand = zoo.build(name), ByHand(PAPER, **changes)
    profile = eh.profile(model)
    found = sizes.size(model.trainable_weights), sizes.size(model.weights)
    assert found == (by_hand.trainable, by_hand.total)
    assert profile.parameters == by_hand.folded
    assert (millions(profile.parameters), millions(profile.flops)) == (
        parameters,
        flops,
    )
    assert 0 < profile.flops - by_hand.products_above < 500_000
    for frames in (25, 300):
        true = eh.profile(model, input_shape=input_shape(model, frames)).flops
        products = by_hand.products_above + frames * by_hand.products_a_frame
        assert products < true < 1.001 * products


def test_scores_gated_counts():
    """`classes` squared in place of `hidden` squared, and its batch norm."""
    spec = videos.SMALL["dbof"]
    hidden, classes = spec["hidden"], spec["classes"]
    difference = (hidden**2 + 2 * hidden) - (classes**2 + 2 * classes)
    models = (videos.build("dbof", second_gate=gate) for gate in ("hidden", "scores"))
    first, second = (sizes.size(model.trainable_weights) for model in models)
    assert first - second == difference


def test_every_row_has_its_counts():
    rows = [*zoo.dbof.SPECS, *zoo.nextvlad.SPECS, *zoo.video_level.SPECS]
    assert list(COUNTS) == rows
    with open(Path(__file__).with_name("youtube8m_counts.csv"), newline="") as file:
        assert next(csv.reader(file)) == ["name", *sizes.COLUMNS]


def test_penalty_is_on_the_mixture():
    model = videos.build("dbof", l2=0.02)
    gates, experts, _ = model.get_layer("moe").get_weights()
    expected = 0.01 * (np.sum(gates**2) + np.sum(experts**2))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not videos.build("dbof", l2=0.0).losses


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cluster": 0}, "`cluster` must be a positive integer. Received: cluster=0"),
        ({"num_experts": 2.0}, "`num_experts` must be a positive integer"),
        ({"frames": -1}, "`frames` must be a positive integer or None"),
        ({"pooling": "sum"}, "`pooling` must be one of 'swap', 'average'"),
        ({"second_gate": True}, "`second_gate` must be one of 'hidden', 'scores'"),
        ({"relu_cap": 0}, "`relu_cap` must be positive or None"),
        ({"l2": -1e-8}, "`l2` must not be negative"),
        ({"clusters": 3}, "`clusters` must be a field of DBoFSpec. Closest: cluster"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("dbof", **changes)
