"""Every row has its exact size; a network is what an independent forward pass gives."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import zoo
from ensemble_heads.keras_api import keras
from zoo.specs import merge

SMALL = {"input_shape": (33, 32, 3), "classes": 7}


def small(name="resnet50", **changes):
    """A few narrow stages of a published row."""
    options = {"blocks": (2, 1, 2), "widths": (4, 6, 8), "stem_width": 8} | SMALL
    return zoo.build(name, **options | changes)


def scatter(model):
    """Gives a model weights and statistics at which every part matters."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(1.0, 3.0, size),
                    rng.normal(0.0, 1.5, size),
                    rng.normal(0.0, 0.1, size),
                    rng.uniform(0.01, 0.3, size),
                ]
            )
    return model


def forward(model, spec, x, seen):
    """The network by TensorFlow's operations from the weights of `model`.

    Written from the paper alone: it shares no code with the zoo. Puts the stages'
    outputs and the largest inner activation before its cap into `seen`.
    """

    def conv_norm(x, prefix, index="", stride=1):
        kernel = model.get_layer(f"{prefix}_conv{index}").get_weights()[0]
        x = tf.nn.conv2d(x, kernel, stride, "SAME")
        gamma, beta, mean, var = model.get_layer(f"{prefix}_bn{index}").get_weights()
        return (x - mean) / np.sqrt(var + 1e-5) * gamma + beta

    def squeeze_excite(y, unit):
        gate = tf.reduce_mean(y, [1, 2], keepdims=True)
        gate = tf.nn.relu(conv_norm(gate, f"{unit}_se", 1))
        return y * tf.sigmoid(conv_norm(gate, f"{unit}_se", 2))

    cap = np.inf if spec.relu_cap is None else spec.relu_cap
    x = tf.nn.relu(conv_norm(x, "stem", stride=2 if spec.stem == "imagenet" else 1))
    if spec.stem == "imagenet":
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
    deep = spec.unit == "bottleneck"
    last = spec.stride_placement == "last"
    for stage, units in enumerate(spec.blocks, start=1):
        for u in range(1, units + 1):
            if last:
                stride = 2 if u == units and stage < len(spec.blocks) else 1
            else:
                stride = 2 if u == 1 and stage > 1 else 1
            unit, y = f"stage{stage}_unit{u}", x
            convolutions = 3 if deep else 2
            strided = 2 if deep or last else 1
            for i in range(1, convolutions + 1):
                y = conv_norm(y, unit, i, stride if i == strided else 1)
                if i < convolutions:
                    seen["largest"] = max(seen.get("largest", 0), float(np.max(y)))
                    y = tf.minimum(tf.nn.relu(y), cap)
            if spec.se_ratio:
                y = squeeze_excite(y, unit)
            if y.shape[-1] != x.shape[-1]:
                x = conv_norm(x, f"{unit}_shortcut", stride=stride)
            else:
                x = x[:, ::stride, ::stride]
            x = tf.nn.relu(x + y)
        seen[f"stage{stage}"] = x
    kernel, bias = model.get_layer("classifier").get_weights()
    return tf.nn.softmax(tf.reduce_mean(x, [1, 2]) @ kernel + bias)


@pytest.mark.parametrize(
    "name, changes",
    [
        ("resnet50", {}),
        ("se_resnet152", {}),
        ("se_resnet50", {"stride_placement": "first", "relu_cap": None}),
        ("resnet18", {"widths": (8, 8, 12)}),
        ("se_resnet34", {"stride_placement": "first", "se_ratio": 0.25}),
        ("cifar_resnet20", {"relu_cap": 2.5}),
    ],
)
def test_forward_pass(name, changes):
    model = scatter(small(name, **changes))
    options = {"blocks": (2, 1, 2), "widths": (4, 6, 8), "stem_width": 8} | changes
    spec = zoo.SPECS[name].with_changes(**options)
    x, seen = tf.random.normal([3, *SMALL["input_shape"]]), {}
    expected = forward(model, spec, x, seen)
    np.testing.assert_allclose(model(x, training=False), expected, atol=2e-5)
    assert seen["largest"] > 6.0, "no activation reaches the cap"
    stages = [f"stage{k}" for k in (1, 2, 3)]
    cut = keras.Model(model.input, [model.get_layer(k).output for k in stages])
    for stage, output in zip(stages, cut(x, training=False), strict=True):
        np.testing.assert_allclose(output, seen[stage], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "placement, sides", [("last", (28, 14, 7, 7)), ("first", (56, 28, 14, 7))]
)
def test_resolution_at_the_end_of_each_stage(placement, sides):
    model = zoo.build("resnet50", blocks=(2, 2, 2, 2), stride_placement=placement)
    for stage, (side, channels) in enumerate(
        zip(sides, (256, 512, 1024, 2048), strict=True), start=1
    ):
        output = model.get_layer(f"stage{stage}").output
        assert tuple(output.shape) == (None, side, side, channels)
    position = [layer.name for layer in model.layers].index("stage2")
    assert model.layers[position + 1].name == "stage3_unit1_conv1"


def test_unknown_resolution():
    model = small(input_shape=(None, None, 1))
    assert model(tf.zeros([2, 40, 24, 1])).shape == (2, 7)


def test_initial_weights():
    model = zoo.build("resnet50", blocks=(1, 1, 1, 1))
    kernels = {
        layer.name: layer.get_weights()[0]
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    for kernel in kernels.values():
        assert np.std(kernel) == pytest.approx(0.03, rel=0.05)
    assert not np.allclose(
        kernels["stage3_unit1_conv1"].ravel()[:99],
        kernels["stage3_unit1_conv3"].ravel()[:99],
    )
    he = zoo.build("cifar_resnet20").get_layer("stage3_unit3_conv2").get_weights()[0]
    assert np.std(he) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)


@pytest.mark.parametrize("batch_norm", ["fused", "keras"])
def test_weight_decay_is_on_kernels_and_gammas(batch_norm):
    model = scatter(small("se_resnet50", weight_decay=0.02, batch_norm=batch_norm))
    counted = [
        weight
        for layer in model.layers
        for key in ("kernel", "gamma")
        if (weight := getattr(layer, key, None)) is not None
    ]
    assert len(counted) == len(model.losses)
    expected = 0.01 * sum(np.sum(np.square(w.numpy(), dtype="f8")) for w in counted)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert not small("se_resnet50").losses


def test_choice_of_batch_norm():
    for key, cls in (
        ("fused", zoo.BatchNormalization),
        ("keras", keras.layers.BatchNormalization),
    ):
        found = [
            type(layer)
            for layer in small(batch_norm=key).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert set(found) == {cls}


def test_logits():
    probabilities = small()
    logits = small(classifier_activation=None)
    logits.set_weights(probabilities.get_weights())
    x = tf.random.normal([2, *SMALL["input_shape"]])
    np.testing.assert_allclose(tf.nn.softmax(logits(x)), probabilities(x), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_policy_rules_the_dtype_and_outputs_are_wide(policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = small("se_resnet50")
    finally:
        keras.mixed_precision.set_global_policy(before)
    inner = model.get_layer("stage2").compute_dtype
    assert inner == policy.removeprefix("mixed_")
    output = model(tf.random.normal([2, *SMALL["input_shape"]]), training=True)
    assert output.dtype == ("float64" if policy == "float64" else "float32")
    np.testing.assert_allclose(tf.reduce_sum(output, -1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_squeezes_large_images_in_half_precision(policy):
    """In 16 bits the sum of 64 x 64 values is infinite, or stops growing early."""
    keras.mixed_precision.set_global_policy(policy)
    pool = small("se_resnet50").get_layer("stage1_unit1_se_pool")
    average = np.array(pool(np.full((1, 64, 64, 2), 20.0, "float32")))
    np.testing.assert_allclose(average.astype("float32"), 20.0, rtol=1e-2)


def test_saves_loads_and_trains(tmp_path):
    model = small("se_resnet18", blocks=(1, 1, 2), weight_decay=1e-4)
    model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, *SMALL["input_shape"]))
    history = model.fit(x, np.arange(8) % 7, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )


def test_multi_headed_row_takes_changes_of_both_specs():
    spec = zoo.SPECS["se_resnet152_2heads"]
    assert (spec.fork_at, spec.num_heads, spec.width_multiplier) == (
        "stage2",
        2,
        0.6875,
    )
    assert spec.base == zoo.SPECS["se_resnet152"]
    changed = spec.with_changes(num_heads=3, blocks=(1, 1, 1, 1), classes=5)
    assert changed.base.blocks == (1, 1, 1, 1) and spec.base.blocks == (3, 8, 36, 3)
    model = zoo.build(
        "resnet152_2heads", blocks=(1, 1, 1, 1), num_heads=3, input_shape=(32, 32, 3)
    )
    assert model.name == "resnet152_2heads" and model.num_heads == 3
    for head in model.heads:
        assert head.get_layer("stage3_unit1_conv2").filters == 176
        assert head.get_layer("stage4_unit1_conv2").filters == 352
        assert head.get_layer("stage4_unit1_conv3").filters == 1408
    assert model.trunk.output_shape == (None, 2, 2, 512)


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("resnet125", {}, r"Closest: resnet152, .*Received: name='resnet125'"),
        ("vgg", {}, r"All names: resnet18, .*Received: name='vgg'"),
        (None, {}, "Received: name=None"),
        ("resnet50", {"widht": 3}, r"`widht` must be a field .*Closest: widths"),
        ("resnet152_2heads", {"heads": 3}, r"Closest: num_heads.*input_shape"),
        ("resnet50", {"blocks": (1, 2)}, r"`widths` must have one entry per stage, 2"),
        ("resnet50", {"blocks": (1, 2, 0, 3)}, "`blocks` must hold a positive integer"),
        ("resnet50", {"widths": 64}, r"`widths` must be a tuple. Received: widths=64"),
        ("resnet50", {"classes": 0}, "`classes` must be a positive integer"),
        ("resnet50", {"input_shape": (224, 224)}, r"be \(height, width, channels\)"),
        ("resnet50", {"input_shape": (-5, 32, 3)}, r"be \(height, width, channels\)"),
        ("resnet50", {"stride_placement": "mid"}, "be one of 'last', 'first'"),
        (
            "resnet50",
            {"unit": "dense"},
            "'bottleneck', 'basic'. Received: unit='dense'",
        ),
        ("resnet50", {"stem": []}, "`stem` must be one of"),
        ("resnet50", {"batch_norm": "none"}, "`batch_norm` must be one of"),
        ("resnet50", {"se_ratio": 2}, r"`se_ratio` must be in \[0, 1\]"),
        ("resnet50", {"relu_cap": 0}, "`relu_cap` must be positive or None"),
        ("resnet50", {"init_stddev": -1}, "`init_stddev` must be positive or None"),
        ("resnet50", {"weight_decay": -1e-4}, "`weight_decay` must not be negative"),
        ("resnet152_2heads", {"classes": -1}, "`classes` must be a positive integer"),
    ],
)
def test_errors(name, changes, message):
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **changes)


def test_names_are_unique_and_rows_frozen():
    assert zoo.names() == list(zoo.SPECS)
    with pytest.raises(ValueError, match="twice: resnet50"):
        merge(zoo.SPECS, {"resnet50": None})
    with pytest.raises(dataclasses.FrozenInstanceError):
        zoo.SPECS["resnet50"].classes = 3
