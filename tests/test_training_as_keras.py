"""Training of one head against Keras' own training of the single model.

With one head and lambda = 0 the loss is l(g, p_1): such a model must train exactly
as its plain functional twin does in Keras' own step, under every setting.
"""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests import small_models
from tests.small_models import CLASSES, dense_model

SPARSE = "sparse_categorical_crossentropy"


def plain_twin(trunk, head, activation):
    """The single model of this trunk and head, with weights of its own."""
    trunk, head = (keras.models.clone_model(part) for part in (trunk, head))
    inputs = tf.nest.map_structure(
        lambda t: keras.Input(t.shape[1:], dtype=t.dtype), trunk.input
    )
    raw = head(trunk(inputs))
    outputs = keras.layers.Activation(activation, dtype="float32", name="out")(raw)
    return keras.Model(inputs, outputs)


def both_histories(model, activation, compile_arguments, fit_arguments):
    """Histories and weights of the one-headed model and its plain twin."""
    twin = plain_twin(model.trunk, model.heads[0], activation)
    twin.set_weights(model.get_weights())
    results = []
    for one in (twin, model):
        one.compile(**{k: v() for k, v in compile_arguments.items()})
        history = one.fit(**fit_arguments, shuffle=False, verbose=0).history
        results.append((history, one.get_weights()))
    return results


def sgd(**options):
    return lambda: keras.optimizers.SGD(0.1, momentum=0.9, **options)


def given(value):
    return lambda: value


WEIGHTS = np.random.RandomState(1).uniform(0, 2, 24).astype("float32")
SETTINGS = {
    "plain": ({}, {}),
    "adam": ({"optimizer": given("adam")}, {}),
    "sample_weight": ({}, {"sample_weight": WEIGHTS}),
    "class_weight": ({}, {"class_weight": {0: 0.5, 1: 2.0, 2: 1.0, 3: 0.0}}),
    "clipnorm": ({"optimizer": sgd(clipnorm=0.05)}, {}),
    "global_clipnorm": ({"optimizer": sgd(global_clipnorm=0.05)}, {}),
    "clipvalue": ({"optimizer": sgd(clipvalue=0.01)}, {}),
    "ema": (
        {"optimizer": sgd(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)},
        {},
    ),
    "eager": ({"run_eagerly": given(True)}, {}),
    "xla": ({"jit_compile": given(True)}, {}),
    "several_steps": ({"steps_per_execution": given(2)}, {}),
    "sum": (
        {"loss": lambda: keras.losses.SparseCategoricalCrossentropy(reduction="sum")},
        {"sample_weight": WEIGHTS},
    ),
    "weighted_metrics": (
        {
            "metrics": given(["accuracy", "mse"]),
            "weighted_metrics": lambda: ["accuracy", keras.metrics.MeanAbsoluteError()],
            "loss": given("mse"),
        },
        {"sample_weight": WEIGHTS, "y": "one_hot"},
    ),
    "one_hot": (
        {"loss": given("categorical_crossentropy"), "metrics": given(["acc"])},
        {"y": "one_hot"},
    ),
    "column": ({}, {"y": "column"}),
}


def forms_of(y):
    return {"one_hot": np.eye(CLASSES)[y].astype("float32"), "column": y[:, None]}


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_head_trains_as_keras_trains_the_single_model(setting):
    changed, fitted = SETTINGS[setting]
    regularizer = keras.regularizers.L2(0.01)
    model = dense_model(1, regularizer=regularizer)
    x, y = small_models.classification_data()
    if isinstance(fitted.get("y"), str):
        fitted = {**fitted, "y": forms_of(y)[fitted["y"]]}
    arguments = {
        "optimizer": sgd(),
        "loss": given(SPARSE),
        "metrics": given(["accuracy"]),
        **changed,
    }
    fitted = {"x": x, "y": y, "batch_size": 8, "epochs": 3, **fitted}
    fitted["validation_data"] = (x[:7], fitted["y"][:7])
    twin, mine = both_histories(model, "softmax", arguments, fitted)
    expected = {k: v for k, v in twin[0].items() if k != "lr"}
    assert set(mine[0]) == set(expected)
    for name, values in expected.items():
        npt.assert_allclose(mine[0][name], values, rtol=2e-5, atol=1e-6, err_msg=name)
    for got, wanted in zip(mine[1], twin[1]):
        npt.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_one_head_in_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = dense_model(1)
        x, y = small_models.classification_data()
        arguments = {"optimizer": sgd(), "loss": given(SPARSE)}
        fitted = {"x": x, "y": y, "batch_size": 8, "epochs": 3}
        twin, mine = both_histories(model, "softmax", arguments, fitted)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    scaled = type(model.optimizer).__name__.startswith("LossScale")
    assert scaled == (policy == "mixed_float16")
    npt.assert_allclose(mine[0]["loss"], twin[0]["loss"], rtol=2e-3)
    for got, wanted in zip(mine[1], twin[1]):
        npt.assert_allclose(got, wanted, atol=5e-3)


def test_too_large_a_loss_scale_skips_the_step_and_falls():
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = dense_model(2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    optimizer = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**40
    )
    model.compile(optimizer, SPARSE)
    before = model.get_weights()
    x, y = small_models.classification_data()
    model.fit(x, y, batch_size=24, verbose=0)
    scale = optimizer.dynamic_scale if KERAS_3 else optimizer.loss_scale
    assert float(tf.convert_to_tensor(scale)) == 2.0**39
    for a, b in zip(before, model.get_weights()):
        npt.assert_array_equal(a, b)


@pytest.mark.parametrize("sample_weight", [None, "per_example", "per_position"])
@pytest.mark.parametrize("masked", [False, True])
def test_positions_weights_and_masks_as_in_keras(sample_weight, masked):
    layers = keras.layers
    inputs = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=masked)(inputs)
    trunk = keras.Model(inputs, embedded)
    features = keras.Input((5, 4))
    head = keras.Model(features, layers.Dense(3, name="out")(features), name="head_0")
    wrapper = eh.MultiHeadWrapper.from_heads([head], "softmax")
    model = eh.MultiHeadModel(trunk, wrapper)
    x = np.random.randint(1, 9, (8, 5))
    x[:4, 3:] = 0
    y = np.random.randint(0, 3, (8, 5))
    fitted = {"x": x, "y": y, "batch_size": 4, "epochs": 2}
    if sample_weight == "per_position":
        fitted["sample_weight"] = WEIGHTS[:1] * np.random.uniform(size=(8, 5))
    elif sample_weight:
        # Keras 3 takes weights per example of positions only with an axis for them.
        fitted["sample_weight"] = np.random.uniform(size=(8, 1))
    arguments = {
        "optimizer": sgd(),
        "loss": given(SPARSE),
        "metrics": given(["accuracy"]),
        "weighted_metrics": given([SPARSE]),
    }
    twin = plain_sequence_twin(trunk, head)
    twin.set_weights(model.get_weights())
    histories = []
    for one in (twin, model):
        one.compile(**{k: v() for k, v in arguments.items()})
        histories.append(one.fit(**fitted, shuffle=False, verbose=0).history)
    for name, values in histories[0].items():
        npt.assert_allclose(histories[1][name], values, rtol=2e-5, err_msg=name)


def plain_sequence_twin(trunk, head):
    """Layer by layer, since nested models of Keras 3 lose masks on their way."""
    inputs = keras.Input((5,), dtype="int32")
    embedding, dense = trunk.layers[-1], head.layers[-1]
    tensor = type(embedding).from_config(embedding.get_config())(inputs)
    config = {**dense.get_config(), "activation": "softmax"}
    return keras.Model(inputs, type(dense).from_config(config)(tensor))
