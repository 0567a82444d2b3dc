"""Heads on devices of one host train as on one device, and little travels."""

import json

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests import placed_training, small_models

DEVICES = """
import json, sys
import tensorflow as tf
_device = tf.config.LogicalDeviceConfiguration()
_cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_cpu, [_device] * 3)
there = ["CPU:1", "CPU:2"]
"""

SETTINGS = """
O = keras.optimizers
settings = {
    "momentum": (normed, places, {}),
    "accumulation": (normed, places, dict(
        optimizer=lambda: O.AdamW(0.05, weight_decay=0.01, use_ema=True, clipnorm=0.05),
        gradient_accumulation_steps=2)),
    "mixed_float16": (normed, places, dict(
        optimizer=lambda: O.SGD(0.1, clipnorm=0.05), policy="mixed_float16",
        steps_per_execution=2)),
    "masked": (masked, [there[1], there[0], there[0]], dict(x=words)),
    "several_outputs": (several, places, dict(
        y={"one": y, "other": x[:, :2]}, metrics=None,
        ensemble_loss=lambda: eh.losses.Ensembling(-0.5),
        loss={"one": "sparse_categorical_crossentropy", "other": "mse"})),
}
result = {name: compare(make, devices, **options)[1]
          for name, (make, devices, options) in settings.items()}
clipped = lambda: dict(optimizer=O.AdamW(0.01, global_clipnorm=0.05, use_ema=True))
result["counted"] = {
    "clipped": [counted(hidden, **clipped()) for hidden in (8, 100)],
    "accumulated": [counted(100, gradient_accumulation_steps=2)],
}
print()
print(json.dumps(result))
"""

NAMES = [
    "momentum",
    "accumulation",
    "mixed_float16",
    "masked",
    "several_outputs",
]


@pytest.fixture(scope="module")
def results(run_python):
    source = DEVICES + placed_training.SOURCE + SETTINGS
    return json.loads(run_python(source, timeout=600).splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_heads_on_devices_equal_one_device(results, name):
    placed_training.assert_equal(results[name])


@pytest.mark.slow
def test_variables_are_where_the_heads_are(results):
    homes = [
        name.rpartition("/device:")[2] for name in results["accumulation"]["homes"]
    ]
    assert homes == ["CPU:0", "CPU:1", "CPU:2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clipped", "accumulated"])
def test_bytes_are_those_of_features_and_predictions(results, name):
    home, there = "/device:CPU:0", ["/device:CPU:1", "/device:CPU:2"]
    counted = results["counted"][name]
    for one in counted:
        assert one["unchanged"]
        placed_training.assert_hand_count(one, home, there)
        assert one["inference"]["single numbers"] == 0
        assert one["training"]["single numbers"] < 100
    small, large = counted[0], counted[-1]
    for step in ("training", "inference"):
        assert small[step]["bytes"] == large[step]["bytes"]
    assert "16 x 7" in small["training"]["printed"]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["CPU:0"], "one device for each of the 2 heads.*Received: devices="),
        ("CPU:0", "one device for each of the 2 heads"),
        (["CPU:0", "GPU:7"], "/device:CPU:0.*of which GPU:7 cannot be found"),
        (["CPU:0", "nonsense"], "of which nonsense cannot be found"),
    ],
)
def test_devices_that_do_not_fit(devices, message):
    with pytest.raises(ValueError, match=message):
        small_models.dense_model(2).with_devices(devices)


@pytest.mark.parametrize("make", [small_models.dense_tree, small_models.dense_stack])
def test_only_separate_heads_have_devices(make):
    model = make()
    with pytest.raises(ValueError, match="unless heads run separately"):
        model.with_devices(["CPU:0"] * model.num_heads)


def placed(**options):
    model = small_models.dense_model(2).with_devices([None, "CPU:0"])
    arguments = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"}
    model.compile(**{**arguments, **options})
    return model


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(ValueError, match="`jit_compile` must not be True"):
        placed(jit_compile=True)
    with pytest.raises(ValueError, match="state in the shapes of the weights"):
        placed(optimizer=keras.optimizers.Adafactor())
    if not KERAS_3:
        with pytest.raises(ValueError, match="none of Keras' legacy ones"):
            placed(optimizer=keras.optimizers.legacy.Adam())
    if not KERAS_3:  # which has no such thing
        model = placed()
        model.add_loss(lambda: 1.0)
        with pytest.raises(ValueError, match="`add_loss` must be called on layers"):
            model.fit(*small_models.classification_data(8), verbose=0)


def test_a_strategy_is_refused():
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = small_models.dense_model(2).with_devices([None, "CPU:0"])
        with pytest.raises(ValueError, match="no devices under a strategy"):
            model.compile("sgd", "mse")


def test_files_hold_no_devices(tmp_path):
    model, x = placed(), small_models.classification_data(8)[0]
    model.fit(*small_models.classification_data(8), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert model.devices == (None, "/device:CPU:0") and loaded.devices is None
    np.testing.assert_array_equal(loaded(x), model(x))
    again = loaded.with_devices(["CPU:0", None])
    np.testing.assert_array_equal(again(x), model(x))
    assert again.with_devices(None).devices is None
    with pytest.raises(ValueError, match="`eh.export` leaves them out"):
        model.export(str(tmp_path / "keras"))


def test_checkpoints_fit_with_and_without_devices(tmp_path):
    model, plain = placed(), small_models.dense_model(2)
    model.fit(*small_models.classification_data(8), verbose=0)
    plain.compile(keras.optimizers.SGD(), "sparse_categorical_crossentropy")
    plain.optimizer.build(plain.trainable_variables)
    parts = {"model": model, "optimizer": model.optimizer}
    path = tf.train.Checkpoint(**parts).write(str(tmp_path / "checkpoint"))
    parts = {"model": plain, "optimizer": plain.optimizer}
    tf.train.Checkpoint(**parts).read(path).assert_existing_objects_matched()
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(plain.optimizer.iterations) == 1


def test_parts_of_a_placed_model(tmp_path):
    model, x = placed(), small_models.classification_data(8)[0]
    every = model.head_predictions(x)
    np.testing.assert_array_equal(model.head(1)(x), every[:, 1])
    one = model.select_heads([1])
    assert one.devices == ("/device:CPU:0",)
    np.testing.assert_array_equal(one(x), every[:, 1])
    assert (
        eh.profile(model).parameters
        == eh.profile(small_models.dense_model(2)).parameters
    )
    path = eh.export(model, tmp_path / "serving")
    serve = tf.saved_model.load(path).signatures["serving_default"]
    np.testing.assert_allclose(serve(x=x)["out"], model(x), rtol=1e-5)
    graph = serve.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    assert not [node.name for node in nodes if node.device]


def test_transfers_of_what_is_no_such_model():
    with pytest.raises(TypeError, match="must be an `eh.MultiHeadModel`"):
        eh.transfers(keras.Sequential(), np.ones([2, 2]))
    with pytest.raises(ValueError, match="`y` must be left out"):
        eh.transfers(small_models.dense_model(2), np.ones([2, 6]), np.ones([2]))
