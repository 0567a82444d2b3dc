"""Bad targets and numbers in training: what is raised, and that it is short."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import small_models
from tests.small_models import CLASSES, FEATURES, dense_model

SPARSE = "sparse_categorical_crossentropy"


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "validation"])
def test_labels_out_of_range_in_arrays(labels, method):
    model = dense_model(2)
    model.compile("sgd", SPARSE)
    x, y = np.zeros((2, FEATURES), "float32"), np.array(labels)
    message = f"numbers from 0 to 3 for output `out`.*from {min(y)} to {max(y)}"
    with pytest.raises(ValueError, match=message):
        if method == "validation":
            model.fit(x, np.zeros(2, int), validation_data=(x, y), verbose=0)
        else:
            getattr(model, method)(x, y)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_labels_out_of_range_in_datasets(method, eager):
    model = dense_model(2)
    model.compile("sgd", SPARSE, run_eagerly=eager)
    x, y = np.zeros((6, FEATURES), "float32"), np.array([0, 1, 2, 3, 4, 0])
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    with pytest.raises(ValueError, match="numbers from 0 to 3 .*from 0 to 4") as error:
        getattr(model, method)(data, verbose=0)
    assert "\n" not in str(error.value)


def test_targets_that_are_no_probabilities():
    model = dense_model(2, "sigmoid")
    model.compile("sgd", "binary_crossentropy")
    x = np.zeros((2, FEATURES), "float32")
    with pytest.raises(ValueError, match="probabilities from 0 to 1 .* -1.0 to 1.0"):
        model.fit(x, np.array([[1.0, -1, 0, 0], [0, 0, 1, 1]]), verbose=0)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_targets_of_every_type_pass_the_checks(dtype):
    x, y = small_models.classification_data()
    several = dense_model(2)
    several.compile("sgd", SPARSE)
    binary = dense_model(2, "sigmoid", 1)
    binary.compile("sgd", "binary_crossentropy")
    targets = [(several, y), (binary, y % 2)] if dtype != "bool" else [(binary, y % 2)]
    for model, target in targets:
        narrow = target.astype(dtype)
        data = tf.data.Dataset.from_tensor_slices((x, narrow)).batch(24)
        expected = model.evaluate(x, target, verbose=0)
        npt.assert_allclose(model.evaluate(x, narrow, verbose=0), expected, rtol=1e-6)
        npt.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-6)


def test_ignored_class_is_no_label_out_of_range():
    model = dense_model(2)
    loss = eh.losses.SparseCategoricalCrossentropy(ignore_class=255)
    model.compile("sgd", loss)
    x, y = small_models.classification_data(8)
    heads = np.array(model.head_predictions(x))[np.arange(8), :, y]
    expected = -np.log(heads).sum(1)[2:].mean()  # divided by what counts
    y[:2] = 255
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    npt.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("source", ["arrays", "dataset"])
def test_labels_of_weight_zero_may_be_anything(source):
    model = dense_model(2)
    model.compile("sgd", SPARSE)
    x, y = small_models.classification_data(8)
    weights = np.ones(8, "float32")
    weights[:3] = 0.0
    # Keras' mean is over all examples, so that 0 takes part in it.
    expected = model.evaluate(x, y, sample_weight=weights, verbose=0)
    y[:3] = 255
    if source == "arrays":
        assert model.test_on_batch(x, y, weights) == pytest.approx(expected)
        given = {"x": x, "y": y, "sample_weight": weights}
        seen = {"validation_data": (x, y, weights)}
    else:
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(8)}
        seen = {"validation_data": given["x"]}
    assert model.evaluate(**given, verbose=0) == pytest.approx(expected)
    history = model.fit(**given, **seen, verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()
    weights[0] = 0.5
    if source == "dataset":
        given = {"x": tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(8)}
    with pytest.raises(ValueError, match="numbers from 0 to 3 .* 255"):
        model.evaluate(**given, verbose=0)


def test_labels_of_masked_positions_may_be_anything():
    layers = keras.layers
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 5, mask_zero=True)(inputs)
    x = layers.Dense(6, name="shared", activation="tanh")(x)
    single = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model = eh.multi_head(single, fork_at="shared")
    model.compile("sgd", SPARSE)
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], "int32")
    labels = np.arange(12).reshape(3, 4) % 3
    expected = model.evaluate(x, labels, verbose=0)
    padded = np.where(x == 0, -1, labels)
    assert model.evaluate(x, padded, verbose=0) == pytest.approx(expected)
    assert np.isfinite(model.fit(x, padded, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match="numbers from 0 to 2 .* -1 to 2"):
        model.evaluate(x, np.where(x == 8, -1, labels), verbose=0)


def nan_loss(y_true, y_pred):
    return tf.reduce_sum(y_pred, axis=-1) * np.nan


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "where, message",
    [
        ("input", r"its input \(`x`\) does"),
        ("target", r"its target \(`y`\) does"),
        ("loss", r"its loss \(not its inputs and targets\) does"),
    ],
)
def test_nan_in_the_first_batch_is_named_and_spoils_no_weight(where, message, eager):
    model = dense_model(2, "linear")
    x, y = small_models.classification_data()
    target = np.eye(CLASSES)[y].astype("float32")
    if where == "input":
        x[3, 2] = np.nan
    elif where == "target":
        target[3, 2] = np.nan
    loss = nan_loss if where == "loss" else "mse"
    model.compile("sgd", loss, run_eagerly=eager)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message) as error:
        model.fit(x, target, batch_size=24, verbose=0)
    assert "\n" not in str(error.value)
    for a, b in zip(before, model.get_weights()):
        npt.assert_array_equal(a, b)


@pytest.mark.parametrize("eager", [False, True])
def test_nan_in_the_first_batch_of_a_later_fit(eager, tmp_path):
    model = dense_model(2, "linear")
    x, y = small_models.classification_data()
    target = np.eye(CLASSES)[y].astype("float32")
    model.compile("sgd", "mse", run_eagerly=eager)
    model.fit(x, target, verbose=0)
    before = model.get_weights()
    bad = np.where(np.arange(len(x))[:, None] == 3, np.nan, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        with pytest.raises(ValueError, match=r"its input \(`x`\) does"):
            one.fit(bad, target, batch_size=24, verbose=0)
        for a, b in zip(before, one.get_weights()):
            npt.assert_array_equal(a, b)


def test_nan_in_the_first_batch_under_xla():
    model = dense_model(2, "linear")
    x, y = small_models.classification_data()
    target = np.eye(CLASSES)[y].astype("float32")
    model.compile("sgd", "mse", jit_compile=True)
    model.fit(x, target, verbose=0)
    x[0] = np.nan
    with pytest.raises(ValueError, match="its loss does"):
        model.fit(x, target, verbose=0)


def test_loss_that_does_not_fit_is_one_paragraph_in_fit():
    model = dense_model(2)
    model.compile("sgd", "categorical_crossentropy")
    x, y = small_models.classification_data()
    message = r"does not fit.*\(None, 4\).*`sparse_categorical_cross.*\(24,\)"
    with pytest.raises(ValueError, match=message) as error:
        model.fit(x, y, verbose=0)
    assert "\n" not in str(error.value)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(24)
    with pytest.raises(ValueError, match="need `sparse_categorical_crossentropy`"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize(
    "loss, target, message",
    [
        ("categorical_crossentropy", (), "does not fit"),
        (SPARSE, (CLASSES,), "does not fit"),
        ("mse", (CLASSES - 1,), "does not fit"),
        (None, (CLASSES,), "`loss` must be given to `compile`"),
    ],
)
def test_bad_datasets_get_one_paragraph(loss, target, message):
    model = dense_model(2)
    model.compile("sgd", loss)
    x = np.zeros((8, FEATURES), "float32")
    pairs = (x, np.zeros((8, *target), "int32"))
    data = tf.data.Dataset.from_tensor_slices(pairs).batch(4)
    for run in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message) as error:
            run(data, verbose=0)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="`y` must be given") as error:
        model.fit(data.map(lambda x, y: x), verbose=0)
    assert "\n" not in str(error.value)


def class_number_loss(y_true, y_pred):
    chosen = tf.gather(y_pred, tf.cast(y_true, tf.int32), batch_dims=1)
    return -tf.math.log(chosen)


def test_codistillation_refuses_a_loss_that_takes_no_predictions_as_targets():
    model = dense_model(2)
    x, y = small_models.classification_data()
    model.compile("sgd", class_number_loss, ensemble_loss=eh.losses.CoDistillation(1.0))
    with pytest.raises(ValueError, match="must take targets of the shape of a pred"):
        model.fit(x, y, verbose=0)
    model.compile("sgd", class_number_loss, ensemble_loss=eh.losses.Ensembling(-1.0))
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"][0])


def test_missing_targets_and_missing_loss():
    x, y = small_models.classification_data()
    model = dense_model(2)
    model.compile("sgd", SPARSE)
    with pytest.raises(ValueError, match="`y` must be given"):
        model.fit(x, verbose=0)
    model.compile("sgd")
    with pytest.raises(ValueError, match="`loss` must be given to `compile`"):
        model.fit(x, y, verbose=0)
