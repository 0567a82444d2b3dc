"""S3D-G: its formula, its heads, precision, XLA, files, folding, and its errors."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo.s3dg_models import CLASSES, SMALL, Network, build, clips
from zoo.s3dg import Mixed

PUBLISHED = zoo.SPECS["s3dg"].blocks
LABELS = np.array([1, 4])


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


def test_widths_of_heads():
    """2/3 of every output, 0.8 of every reduction and of the gates on it."""
    model = build("s3dg_2heads")
    plain = build("s3dg_2heads_two_thirds")
    for index, (wide, narrow) in enumerate(zip(model.heads, plain.heads)):
        for name, outputs, published, thirds in (
            *(("4b_1_reduce", 6, 5, 4), ("4b_1_reduce_gate_conv", 6, 5, 4)),
            *(("4b_1", 9, 6, 6), ("4b_1_temporal", 9, 6, 6), ("4b_0", 5, 3, 3)),
            *(("5b_1_reduce", 5, 4, 3), ("5b_2_gate_conv", 4, 3, 3)),
        ):
            found = [h.get_layer(f"mixed_{name}").filters for h in (wide, narrow)]
            assert found == [published, thirds], (name, outputs, index)
    assert model.trunk.layers[-1].name == "pool_4a"


def test_published_width_of_a_branch():
    """554 = 171 + 213 + 85 + 85 channels before the last subsampling."""
    last = PUBLISHED[1][-1]
    outputs = (last.pointwise, last.output_1, last.output_2, last.pooled)
    assert [round(n * 2 / 3) for n in outputs] == [171, 213, 85, 85]


def test_two_heads(tmp_path):
    """Heads differ; folding, profile, file and one head alone agree with them."""
    new = zoo.build("s3dg_2heads", **SMALL, seed=1)
    first, second = (head.get_layer("mixed_4b_1") for head in new.heads)
    assert np.abs(first.get_weights()[0] - second.get_weights()[0]).max() > 1e-3
    model, x = build("s3dg_2heads"), clips()
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


# ---- Precision and XLA


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    """Forward and gradients; gates average 16,384 places, too many for 16 bits."""
    changes = {"input_shape": (8, 128, 128, 3)}
    full, x = build(**changes), clips((8, 128, 128, 3), batch=1)
    keras.mixed_precision.set_global_policy(policy)
    half = build(**changes)
    assert half.get_layer("conv_2c").compute_dtype == policy.removeprefix("mixed_")
    with tf.GradientTape() as tape:
        outputs = half(x, training=True)
        loss = -tf.reduce_mean(tf.math.log(outputs[:, 1]))
    gradients = tape.gradient(loss, half.trainable_weights)
    assert outputs.dtype == tf.float32
    assert all(np.isfinite(np.array(one)).all() for one in gradients)
    half.set_weights(full.get_weights())  # training has moved the statistics
    np.testing.assert_allclose(half(x), full(x), atol=0.05)


def test_xla():
    """The forward pass, and gradients up to a block, are those of eager execution.

    Not beyond it: a block pools what overlapping windows have pooled, whose maxima are
    equal, and eager TensorFlow gives each of these the whole gradient on a CPU.
    """
    single, x = build(weight_decay=1e-2), clips()
    model = keras.Model(single.input, single.get_layer("mixed_3b_1_gate").output)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
            loss += tf.add_n(model.losses)
        gradients = tape.gradient(loss, model.trainable_weights)
        return loss, gradients, single(x, training=False)

    state = single.get_weights()
    expected = step(x)
    single.set_weights(state)
    found = tf.function(step, jit_compile=True)(x)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3 * scale + 1e-7)


def test_trains():
    """Every weight of the trunk and of both heads moves, and the loss falls."""
    model, x = build("s3dg_2heads", dropout=0.0), clips()
    loss = "sparse_categorical_crossentropy"
    model.compile(
        keras.optimizers.Adam(3e-3),
        loss,
        ensemble_loss=eh.losses.CoDistillation(2.0),
        run_eagerly=True,  # tracing takes longer than training here
    )
    before = model.get_weights()
    history = model.fit(x, LABELS, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0] and np.isfinite(history).all()
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.abs(old - new).max() > 0


def test_weight_decay_is_on_kernels_and_gammas():
    model = build(weight_decay=0.02)
    counted = [
        weight
        for layer in model.layers
        for key in ("kernel", "gamma")
        if (weight := getattr(layer, key, None)) is not None
    ]
    assert len(counted) == len(model.losses)
    expected = 0.01 * sum(np.sum(np.square(w.numpy(), dtype="f8")) for w in counted)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not build().losses


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
