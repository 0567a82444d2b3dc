"""Steps, metrics, outputs and settings of training against values by hand."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import numpy_losses, small_models
from tests.small_models import CLASSES, FEATURES, dense_model

SPARSE = "sparse_categorical_crossentropy"


# ---- Steps by hand


@pytest.mark.parametrize("ensemble_loss", ["ensembling", "codistillation"])
def test_step_equals_one_by_hand(ensemble_loss):
    """Loss of equation 2 or 3 in NumPy, the update from its numerical gradient."""
    model = dense_model(3)
    x, y = small_models.classification_data(8)
    loss = {
        "ensembling": eh.losses.Ensembling(-1.5),
        "codistillation": eh.losses.CoDistillation(3.0),
    }[ensemble_loss]
    weights = np.random.uniform(0, 2, 8).astype("float32")
    biases = [head.trainable_variables[-1] for head in model.heads]
    before = [np.array(b) for b in biases]
    features = model.trunk(x)
    raw = np.stack([np.array(head(features)) for head in model.heads], 1)
    raw = raw.astype("float64")
    parameter, options = -1.5, {}
    if ensemble_loss == "codistillation":
        parameter = 3.0
        options["teacher"] = numpy_losses.combine(raw, "softmax")

    def compute(z):
        function = getattr(numpy_losses, ensemble_loss)
        losses = function(
            numpy_losses.categorical,
            np.eye(CLASSES)[y],
            z,
            "softmax",
            parameter,
            **options,
        )
        return losses * weights / 8  # by the batch's size, not the weights' sum

    model.compile(keras.optimizers.SGD(0.5), SPARSE, ensemble_loss=loss)
    logs = model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    npt.assert_allclose(logs["loss"], compute(raw).sum(), rtol=1e-5)
    gradient = numpy_losses.gradient(compute, raw).sum(0)
    for i, bias in enumerate(biases):
        moved = (before[i] - np.array(bias)) / 0.5
        npt.assert_allclose(moved, gradient[i], rtol=1e-3, atol=2e-6)


def test_regularisation_counts_once():
    model = dense_model(3, regularizer=keras.regularizers.L2(0.1))
    x, y = small_models.classification_data()
    model.compile("sgd", SPARSE)
    kernels = [w for w in model.get_weights() if w.ndim == 2]
    penalty = 0.1 * sum((kernel**2).sum() for kernel in kernels)
    assert len(kernels) == 1 + 3 * 2
    heads = np.array(model.head_predictions(x))[np.arange(24), :, y]
    expected = -np.log(heads).sum(1).mean() + penalty
    npt.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-5)


def test_class_weights_by_hand():
    model = dense_model(2)
    x, y = small_models.classification_data()
    table = {0: 0.5, 1: 3.0, 2: 1.0, 3: 0.0}
    model.compile(keras.optimizers.SGD(0.0), SPARSE)
    heads = np.array(model.head_predictions(x))[np.arange(24), :, y]
    per_example = -np.log(heads).sum(1) * [table[label] for label in y]
    history = model.fit(x, y, batch_size=24, class_weight=table, verbose=0).history
    npt.assert_allclose(history["loss"], [per_example.mean()], rtol=1e-5)


def test_metrics_of_the_ensemble_and_of_every_head():
    model = dense_model(3)
    # Drawn at random, also the biases: equal outputs would tie in the top two.
    model.set_weights([np.random.normal(size=w.shape) for w in model.get_weights()])
    x, y = small_models.classification_data()
    top = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    model.compile(
        "sgd",
        SPARSE,
        ensemble_loss=eh.losses.Ensembling(0.5),
        metrics=["accuracy"],
        head_metrics=["accuracy", top],
    )
    logs = model.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    heads = np.array(model.head_predictions(x))
    names = [f"head_{i}_{n}" for i in range(3) for n in ("accuracy", "top2")]
    assert list(model.metrics_names) == ["loss", "accuracy", *names]
    assert set(logs) == set(model.metrics_names)
    right = np.argmax(heads.mean(1), -1) == y
    npt.assert_allclose(logs["accuracy"], right.mean(), rtol=1e-6)
    for i in range(3):
        order = np.argsort(-heads[:, i], axis=-1)
        accuracy = (order[:, 0] == y).mean()
        npt.assert_allclose(logs[f"head_{i}_accuracy"], accuracy, rtol=1e-6)
        within = (order[:, :2] == y[:, None]).any(1).mean()
        npt.assert_allclose(logs[f"head_{i}_top2"], within, rtol=1e-6)
    as_list = model.evaluate(x, y, batch_size=7, verbose=0)
    npt.assert_allclose(as_list, [logs[n] for n in model.metrics_names], rtol=1e-6)


def test_metrics_are_no_weights_of_the_model():
    model = dense_model(2)
    count = len(model.weights)
    model.compile("sgd", SPARSE, metrics=["accuracy", "AUC"], head_metrics=["accuracy"])
    assert len(model.weights) == len(model.get_weights()) == count


@pytest.mark.parametrize(
    "link, units, loss, expected",
    [
        ("sigmoid", 1, "binary_crossentropy", "binary"),
        ("softmax", 3, "categorical_crossentropy", "categorical"),
        ("softmax", 3, SPARSE, "sparse"),
    ],
)
def test_accuracy_and_crossentropy_by_name(link, units, loss, expected):
    model = dense_model(2, link, units)
    x, y = small_models.classification_data(classes=max(units, 2))
    target = np.eye(units)[y] if expected == "categorical" else y
    model.compile("sgd", loss, metrics=["accuracy", "crossentropy"])
    logs = model.evaluate(x, target, verbose=0, return_dict=True)
    p = np.array(model(x))
    if expected == "binary":
        p = np.concatenate([1 - p, p], axis=-1)
    npt.assert_allclose(logs["accuracy"], (p.argmax(-1) == y).mean(), rtol=1e-6)
    cross = -np.log(p[np.arange(24), y]).mean()
    npt.assert_allclose(logs["crossentropy"], cross, rtol=1e-4)


# ---- Several outputs


@pytest.mark.parametrize("kind", [dict, list])
def test_several_outputs_are_summed_by_their_weights(kind):
    model = small_models.several_outputs_model(kind)
    arrays = [np.random.normal(size=(10, n)).astype("float32") for n in (3, 2)]
    x = dict(zip(("left", "right"), arrays)) if kind is dict else arrays
    label, size = np.random.randint(0, 3, 10), np.random.normal(size=(10, 1))
    size = size.astype("float32")
    y = {"label": label, "size": size} if kind is dict else [label, size]
    losses = {"label": SPARSE, "size": "mse"}
    model.compile(
        "sgd",
        losses if kind is dict else list(losses.values()),
        loss_weights={"size": 0.3},
        ensemble_loss=eh.losses.Ensembling(0.5),
        metrics={"label": "accuracy", "size": ["mae", "mse"]},
        head_metrics={"label": ["accuracy"]},
    )
    logs = model.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    heads = tf.nest.map_structure(np.array, model.head_predictions(x))
    p, s = (heads["label"], heads["size"]) if kind is dict else heads
    of_label = -np.log(p)[np.arange(10), :, label].sum(1) * 0.5
    of_label -= np.log(p.mean(1)[np.arange(10), label])
    of_size = ((s - size[:, None]) ** 2)[..., 0].sum(1) * 0.5
    of_size += ((s.mean(1) - size) ** 2)[:, 0]
    npt.assert_allclose(logs["label_loss"], of_label.mean(), rtol=1e-5)
    npt.assert_allclose(logs["size_loss"], of_size.mean(), rtol=1e-5)
    total = of_label.mean() + 0.3 * of_size.mean()
    npt.assert_allclose(logs["loss"], total, rtol=1e-5)
    right = p.mean(1).argmax(-1) == label
    npt.assert_allclose(logs["label_accuracy"], right.mean(), rtol=1e-6)
    npt.assert_allclose(logs["size_mae"], np.abs(s.mean(1) - size).mean(), rtol=1e-5)
    right = p[:, 1].argmax(-1) == label
    npt.assert_allclose(logs["head_1_label_accuracy"], right.mean(), rtol=1e-6)
    assert len(logs) == 3 + 3 + 2


@pytest.mark.parametrize("kind", [dict, list])
def test_every_output_has_sample_weights_of_its_own(kind):
    model = small_models.several_outputs_model(kind)
    arrays = [np.random.normal(size=(6, n)).astype("float32") for n in (3, 2)]
    label, size = np.random.randint(0, 3, 6), np.random.normal(size=(6, 1))
    weights = np.random.uniform(size=(2, 6)).astype("float32")

    def structure(names, values):
        return dict(zip(names, values)) if kind is dict else list(values)

    x = structure(("left", "right"), arrays)
    outputs = ("label", "size")
    model.compile("sgd", structure(outputs, (SPARSE, "mse")))
    heads = tf.nest.map_structure(np.array, model.head_predictions(x))
    p, s = (heads["label"], heads["size"]) if kind is dict else heads
    of_label = -np.log(p)[np.arange(6), :, label].sum(1)
    of_size = ((s - size[:, None]) ** 2)[..., 0].sum(1)
    y = structure(outputs, (label, size))
    of_each, shared = structure(outputs, weights), weights[0]
    for given, (first, second) in ((of_each, weights), (shared, weights[[0, 0]])):
        logs = model.test_on_batch(x, y, sample_weight=given, return_dict=True)
        npt.assert_allclose(logs["label_loss"], (of_label * first).mean(), rtol=1e-4)
        npt.assert_allclose(logs["size_loss"], (of_size * second).mean(), rtol=1e-4)


def test_outputs_without_a_loss_are_left_out():
    model = small_models.several_outputs_model(dict)
    x = {n: np.random.normal(size=(6, k)) for n, k in (("left", 3), ("right", 2))}
    size = np.random.normal(size=(6, 1))
    model.compile("sgd", {"size": "mse"})
    before = [np.array(h.get_layer("label").kernel) for h in model.heads]
    logs = model.train_on_batch(x, {"size": size}, return_dict=True)
    assert set(logs) == {"loss", "size_loss"}
    for head, kernel in zip(model.heads, before):
        npt.assert_array_equal(head.get_layer("label").kernel, kernel)


# ---- Settings of training itself


@pytest.mark.parametrize("ensemble_loss", ["ensembling", "codistillation"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_loaded_model_goes_on_with_the_same_curve(ensemble_loss, optimizer, tmp_path):
    model = dense_model(2, regularizer=keras.regularizers.L2(0.01))
    x, y = small_models.classification_data()
    optimizer = {
        "adam": keras.optimizers.Adam(0.02),
        "sgd": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    }[optimizer]
    loss = {
        "ensembling": eh.losses.Ensembling(-0.5),
        "codistillation": eh.losses.CoDistillation(2.0),
    }[ensemble_loss]
    model.compile(
        optimizer,
        eh.losses.SparseCategoricalCrossentropy(label_smoothing=0.1),
        ensemble_loss=loss,
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(name="ce")],
        head_metrics=["accuracy"],
        weighted_head_metrics=[eh.metrics.OracleAccuracy()],
    )
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, epochs=2, **options)
    optimizer.learning_rate = 0.05  # as a callback would
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    going_on = model.fit(x, y, epochs=3, **options).history
    reloaded = again.fit(x, y, epochs=3, **options).history
    assert set(going_on) == set(reloaded)
    for name, values in going_on.items():
        npt.assert_allclose(reloaded[name], values, rtol=1e-6, err_msg=name)
    assert repr(again._plan.ensemble_loss) == repr(loss)


def test_loss_scaling_follows_the_layers_not_the_global_policy(tmp_path):
    parts = [small_models.dense_trunk, lambda: small_models.dense_head(CLASSES)]
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        trunk, head = (part() for part in parts)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    wrapper = eh.MultiHeadWrapper.from_heads([head], "softmax")
    model = eh.MultiHeadModel(trunk, wrapper)
    x, y = small_models.classification_data()
    model.compile(keras.optimizers.Adam(0.01), SPARSE)
    model.fit(x, y, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        assert type(one.optimizer).__name__.startswith("LossScaleOptimizer")
    curves = [
        one.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0).history["loss"]
        for one in (model, again)
    ]
    npt.assert_allclose(curves[1], curves[0], rtol=1e-3)


def test_callbacks_see_every_log_and_may_stop_training(tmp_path):
    model = dense_model(2)
    x, y = small_models.classification_data()
    model.compile("sgd", SPARSE, metrics=["accuracy"], head_metrics=["accuracy"])
    best = str(tmp_path / "best.keras")
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, "val_head_1_accuracy", mode="max"),
        keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=10.0),
        keras.callbacks.ReduceLROnPlateau("val_accuracy", patience=1),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(
        x, y, epochs=9, validation_data=(x, y), callbacks=callbacks, verbose=0
    )
    assert len(history.history["val_loss"]) == 2
    assert "head_1_accuracy" in (tmp_path / "log.csv").read_text()
    assert keras.models.load_model(best).num_heads == 2


def test_xla_is_off_unless_asked_for():
    model = dense_model(2)
    model.compile("sgd", SPARSE)
    assert not model.jit_compile
    model.compile("sgd", SPARSE, jit_compile=True)
    assert model.jit_compile


@pytest.mark.parametrize("ensemble_loss", ["ensembling", "codistillation"])
def test_xla_and_eager_and_several_steps_train_alike(ensemble_loss):
    x, y = small_models.classification_data(32)
    loss = {
        "ensembling": eh.losses.Ensembling(-1.5),
        "codistillation": eh.losses.CoDistillation(3.0),
    }[ensemble_loss]
    model = dense_model(2)
    weights, histories = model.get_weights(), []
    for settings in (
        {},
        {"jit_compile": True},
        {"run_eagerly": True},
        {"steps_per_execution": 3},
    ):
        model.set_weights(weights)
        model.compile("adam", SPARSE, ensemble_loss=loss, **settings)
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        histories.append(model.fit(data, epochs=3, verbose=0).history["loss"])
    for history in histories[1:]:
        npt.assert_allclose(history, histories[0], rtol=1e-5)


def test_batches_of_unequal_size_weigh_by_their_size():
    model = dense_model(2)
    x, y = small_models.classification_data(10)
    model.compile("sgd", SPARSE)
    parts = model.evaluate(x, y, batch_size=4, verbose=0)
    npt.assert_allclose(parts, model.evaluate(x, y, batch_size=10, verbose=0), 1e-6)


def test_frozen_parts_stay():
    model = dense_model(2)
    x, y = small_models.classification_data()
    model.trunk.trainable = False
    model.compile("adam", SPARSE)
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    trunk = len(model.trunk.weights)
    for i, (a, b) in enumerate(zip(before, model.get_weights())):
        moved = np.abs(a - b).max() > 0
        assert moved == (i >= trunk)


def test_dropout_follows_training():
    layers = keras.layers
    inputs = keras.Input((FEATURES,))
    trunk = keras.Model(inputs, layers.Dropout(0.9)(inputs))
    features = keras.Input((FEATURES,))
    head = keras.Model(features, layers.Dense(1, name="out")(features), name="head_0")
    wrapper = eh.MultiHeadWrapper.from_heads([head], "linear")
    model = eh.MultiHeadModel(trunk, wrapper)
    x = np.ones((64, FEATURES), "float32")
    assert np.ptp(np.array(model(x))) == 0
    assert np.ptp(np.array(model(x, training=True))) > 0
    model.compile(keras.optimizers.SGD(0.0), "mse")
    target = np.array(model(x))
    evaluated = model.evaluate(x, target, verbose=0)
    trained = model.fit(x, target, verbose=0).history["loss"][0]
    assert evaluated < 1e-10 and trained > 1e-3
