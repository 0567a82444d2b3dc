"""Trains small models with and without devices for their heads, for tests to compare.

`SOURCE` expects the names of two devices in `there`, and leaves `result`.
"""

SOURCE = """
import os
os.environ["AUTOGRAPH_VERBOSITY"] = "0"
import numpy as np
import tensorflow as tf
import ensemble_heads as eh
from ensemble_heads.keras_api import keras

layers = keras.layers
BATCH, FEATURES, CLASSES = 16, 7, 4
keras.utils.set_random_seed(0)
x = np.random.normal(size=(32, 6)).astype("float32")
y = np.random.randint(0, CLASSES, 32)
words = np.random.randint(0, 5, size=(32, 6))
places = [None, *there]

def normed(hidden=8, heads=3):
    inputs = keras.Input((6,))
    shared = layers.Dense(FEATURES, kernel_regularizer="l2", name="shared")(inputs)
    upper = layers.Dense(hidden, kernel_regularizer="l2", activity_regularizer="l2")
    norm = layers.BatchNormalization(momentum=0.5)(upper(shared))
    outputs = layers.Dense(CLASSES, activation="softmax")(layers.ReLU()(norm))
    single = keras.Model(inputs, outputs)
    return eh.multi_head(single, "shared", num_heads=heads, seed=0)

def masked():
    inputs = keras.Input((6,), dtype="int32")
    embedded = layers.Embedding(5, FEATURES, mask_zero=True, name="shared")(inputs)
    pooled = layers.GlobalAveragePooling1D()(layers.Dense(5)(embedded))  # sees the mask
    outputs = layers.Dense(CLASSES, activation="softmax")(pooled)
    return eh.multi_head(keras.Model(inputs, outputs), "shared", num_heads=3, seed=0)

def several():
    inputs = keras.Input((6,))
    shared = layers.Dense(FEATURES, name="shared")(inputs)
    one = layers.Dense(CLASSES, activation="softmax", name="one")(shared)
    other = layers.Dense(2, name="other")(shared)
    single = keras.Model(inputs, {"one": one, "other": other})
    return eh.multi_head(single, "shared", num_heads=3, seed=0)

def train(make, devices, start, options):
    options = {"optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
               "loss": "sparse_categorical_crossentropy", "x": x, "y": y,
               "ensemble_loss": lambda: eh.losses.CoDistillation(1.0),
               "policy": "float32", **options}
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(options.pop("policy"))
    model = make()
    keras.mixed_precision.set_global_policy("float32")
    model.set_weights(start or model.get_weights())
    start = model.get_weights()
    if devices:
        model = model.with_devices(devices)
    x_, y_ = options.pop("x"), options.pop("y")
    made = {name: options.pop(name)() for name in ("optimizer", "ensemble_loss")}
    model.compile(**made, **{"metrics": ["accuracy"], **options})
    history = model.fit(x_, y_, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
    return model, start, history.history

def compare(make, devices, **options):
    alone, start, logs = train(make, None, None, dict(options))
    placed, _, others = train(make, devices, start, dict(options))
    apart = lambda a, b: max(float(np.abs(p - q).max()) for p, q in zip(a, b))
    inputs = options.get("x", x)
    said = [tf.nest.flatten(m(inputs)) for m in (alone, placed)]
    return placed, {
        "moved": apart(start, alone.get_weights()),
        "apart": apart(alone.get_weights(), placed.get_weights()),
        "said apart": apart(*said),
        "logs": [{k: [float(v) for v in h[k]] for k in h} for h in (logs, others)],
        "homes": sorted({v.device for v in variables(placed)}),
    }

def variables(model):
    own = model.optimizer.variables
    all_of = [*model.weights, *(own() if callable(own) else own)]
    return [v if isinstance(v, tf.Variable) else v.value for v in all_of]

def counted(hidden, **options):
    keras.utils.set_random_seed(0)
    model = normed(hidden).with_devices(places)
    options = {"optimizer": "adam", **options}
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"],
                  ensemble_loss=eh.losses.CoDistillation(1.0), **options)
    before = [v.numpy() for v in variables(model)]
    batch = x[:BATCH], y[:BATCH]
    found = {"training": eh.transfers(model, *batch)}
    found["inference"] = eh.transfers(model, x)
    after = [v.numpy() for v in variables(model)]
    return {
        "unchanged": all((a == b).all() for a, b in zip(before, after)),
        **{step: {
            "bytes": one.bytes,
            "tensors": sorted((r.sender, r.receiver, r.shape, r.bytes)
                              for r in one.rows if r.shape != ()),
            "single numbers": sum(r.shape == () for r in one.rows),
            "printed": str(one),
        } for step, one in found.items()},
    }
"""


def assert_equal(result, tolerance=1e-6):
    """Trained and predicting alike, to rounding."""
    assert result["moved"] > 1000 * tolerance
    assert result["apart"] < tolerance
    assert result["said apart"] < tolerance
    alone, placed = result["logs"]
    assert set(alone) == set(placed)
    for name, values in alone.items():
        for one, other in zip(values, placed[name], strict=True):
            assert abs(one - other) < 10 * tolerance * max(1, abs(one)), name


def assert_hand_count(counted, home, there, batch=16, examples=32):
    """Features, predictions and their gradients travel: nothing of a head's size."""
    features, classes = 7, 4
    shapes = {"training": batch, "inference": examples}
    for step, size in shapes.items():
        ways = [(home, device) for device in there]
        ways += [(device, home) for device in there]
        into, out = [size, features], [size, classes]
        expected = [(*way, into if way[0] == home else out) for way in ways]
        if step == "training":  # the gradients go the other way
            expected += [(*way, out if way[0] == home else into) for way in ways]
        found = counted[step]["tensors"]
        assert sorted(t[:3] for t in found) == sorted(map(list, expected)), step
        assert all(t[3] == 4 * t[2][0] * t[2][1] for t in found)
