"""S3D-G: its formula, its heads, files, folding, and its errors."""

import numpy as np
import pytest

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.image_models import scatter
from tests.zoo.s3dg_models import CLASSES, SMALL, Network, build, clips
from zoo.s3dg import Mixed

PUBLISHED = zoo.SPECS["s3dg"].blocks


@pytest.mark.parametrize(
    "name, changes",
    [
        ("s3dg", {}),
        ("s3dg", {"gates": "outputs", "first_kernel": 4}),
        ("s3dg", {"gates": "none", "separable": False}),
        # Three frames before the last pooling, so two windows of two: 24, 12, 6, 3.
        ("s3dg", {"input_shape": (24, 20, 28, 2), "first_kernel": 1}),
        ("inception_v1", {}),
        ("inception_v1", {"gates": "all"}),
    ],
)
def test_is_the_formula(name, changes):
    """For any batch: the same clip alone gives the same."""
    model = build(name, classifier_activation=None, **changes)
    gates = changes.get("gates", zoo.SPECS[name].gates)
    network = Network(model, gates, changes.get("separable", True))
    x = clips(model.input_shape[1:])
    exact = network(x)
    assert np.std(exact) > 0.05
    np.testing.assert_allclose(model(x), exact, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model(x[:1]), exact[:1], rtol=1e-3, atol=1e-4)


def test_has_the_blocks_of_the_paper_by_their_names():
    names = [layer.name for layer in zoo.build("inception_v1").layers]
    blocks = [name for name in names if name.startswith("mixed") and len(name) == 8]
    letters = ("bc", "bcdef", "bc")
    assert blocks == [f"mixed_{n}{c}" for n, cs in zip("345", letters) for c in cs]


def test_temporal_halves_start_as_the_identity():
    """Then time is seen by the first convolution and the poolings alone."""
    model = zoo.build("s3dg", **SMALL)
    for name in ("conv_2c", "mixed_3b_1", "mixed_4b_2"):
        half = model.get_layer(f"{name}_temporal")
        x = np.abs(np.random.normal(size=(1, 5, 2, 2, half.filters)))
        np.testing.assert_allclose(half(x.astype("float32")), x, rtol=1e-6)


# ---- Heads


@pytest.fixture(scope="module")
def two_heads():
    """A two-headed model, and a kernel of each head as it was drawn."""
    model = zoo.build("s3dg_2heads", **SMALL, seed=1)
    drawn = [head.get_layer("mixed_4b_1").get_weights()[0] for head in model.heads]
    for number, part in enumerate([model.trunk, *model.heads]):
        scatter(part, number)
    return model, drawn


def test_widths_of_heads(two_heads):
    """2/3 of every output, 0.8 of every reduction and of the gates on it."""
    model, (first, second) = two_heads
    assert np.abs(first - second).max() > 1e-3
    assert model.trunk.layers[-1].name == "pool_4a"
    widths = {"4b_1_reduce": 5, "4b_1_reduce_gate_conv": 5, "5b_1_reduce": 4}
    widths |= {"4b_0": 3, "4b_1": 6, "4b_1_temporal": 6, "5b_2_gate_conv": 3}
    for head in model.heads:
        found = {name: head.get_layer(f"mixed_{name}").filters for name in widths}
        assert found == widths


def test_published_width_of_a_branch():
    """554 = 171 + 213 + 85 + 85 channels before the last subsampling."""
    last = PUBLISHED[1][-1]
    outputs = (last.pointwise, last.output_1, last.output_2, last.pooled)
    assert [round(n * 2 / 3) for n in outputs] == [171, 213, 85, 85]


def test_two_heads(two_heads, tmp_path):
    """Folding, a file and one head alone agree with what the model predicts."""
    model, x = two_heads[0], clips()
    found = model.head_predictions(x)
    assert found.shape == (2, 2, CLASSES)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 1e-3
    np.testing.assert_allclose(model(x), np.mean(found, axis=1), rtol=1e-4)
    np.testing.assert_allclose(model.head(1)(x), found[:, 1], rtol=1e-4, atol=1e-6)
    folded = eh.fold_batch_norm(model)
    np.testing.assert_allclose(folded.head_predictions(x), found, rtol=1e-3, atol=1e-5)
    parts = [folded.trunk, *folded.heads]
    layers = [layer for part in parts for layer in part.layers]
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in layers)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.head_predictions(x), found, rtol=1e-4, atol=1e-6)


def test_heads_with_copied_weights():
    single, x = build("s3dg"), clips()
    same = eh.multi_head(single, "pool_4a", 2, copy_weights=True)
    np.testing.assert_allclose(same(x), single(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input_shape": (64, 224)}, r"`input_shape` must be \(frames, height"),
        ({"input_shape": (0, 32, 32, 3)}, "`input_shape` must be"),
        ({"stem": (64, 64)}, "`stem` must have three entries"),
        ({"stem": (64, 64, 0)}, "`stem` must hold positive integers"),
        ({"blocks": PUBLISHED[:2]}, "`blocks` must be 3 tuples of Mixed"),
        ({"blocks": PUBLISHED[0]}, "`blocks` must be 3 tuples of Mixed|be a tuple"),
        ({"blocks": (*PUBLISHED[:2], ())}, "`blocks` must have 1 to 25 blocks"),
        ({"blocks": (*PUBLISHED[:2], ((1,) * 6,))}, "`blocks` must be Mixed"),
        (
            {"blocks": (*PUBLISHED[:2], (Mixed(1, 2, 3, 4, 5, 0),))},
            "`blocks` must be Mixed, of positive integers",
        ),
        ({"first_kernel": 0}, "`first_kernel` must be a positive integer"),
        ({"separable": "yes"}, "`separable` must be one of True, False"),
        ({"gates": "every"}, "`gates` must be one of 'all', 'outputs', 'none'"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"gating": "all"}, "`gating` must be a field of S3DGSpec. Closest: gates"),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build("s3dg", **changes)
