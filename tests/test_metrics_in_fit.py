"""Metrics of scored labels in Keras' own fit and evaluate, and in saved models."""

import numpy as np
import pytest

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import numpy_metrics

FEATURES, CLASSES, TOP_K = 6, 7, 3
NAMES = ("gap", "map", "hit_at_1", "perr")


def make_metrics(**kwargs):
    return [
        eh.metrics.GlobalAveragePrecision(TOP_K, **kwargs),
        eh.metrics.MeanAveragePrecision(CLASSES, TOP_K, **kwargs),
        eh.metrics.HitAtOne(),
        eh.metrics.PrecisionAtEqualRecall(),
    ]


def expected(y_true, y_pred, weights=None):
    values = (
        numpy_metrics.global_average_precision(y_true, y_pred, TOP_K, weights),
        numpy_metrics.mean_average_precision(y_true, y_pred, TOP_K, weights),
        numpy_metrics.hit_at_one(y_true, y_pred, weights),
        numpy_metrics.precision_at_equal_recall(y_true, y_pred, weights),
    )
    return dict(zip(NAMES, values, strict=True))


def data(examples=50):
    x = np.random.normal(size=(examples, FEATURES)).astype("float32")
    y = x @ np.random.normal(size=(FEATURES, CLASSES)) > 1.5
    return x, y.astype("float32")


def plain_model():
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    outputs = keras.layers.Dense(CLASSES, activation="sigmoid", name="out")(hidden)
    return keras.Model(inputs, outputs)


def compiled(model, **options):
    model.compile(
        **{
            "optimizer": keras.optimizers.SGD(0.1),
            "loss": "binary_crossentropy",
            "metrics": make_metrics(),
            **options,
        }
    )
    return model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps_per_execution": 3},
        {"run_eagerly": True},
        {"jit_compile": True, "metrics": "fixed"},
    ],
    ids=["plain", "several steps", "eager", "xla"],
)
@pytest.mark.parametrize("heads", [None, 2], ids=["single", "two heads"])
def test_what_evaluate_returns_is_exact(heads, options):
    """Also where the last step that sorted was long ago: batches of 8, and 2 last."""
    if options.get("metrics") == "fixed":
        options = {**options, "metrics": make_metrics(max_examples=50)}
    model = plain_model()
    if heads:
        model = eh.multi_head(model, "hidden", num_heads=2)
    model = compiled(model, **options)
    x, y = data()
    logs = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    y_pred = model.predict(x, verbose=0)
    for name, value in expected(y, y_pred).items():
        assert logs[name] == pytest.approx(value, rel=1e-6), name
    again = model.evaluate(x[:9], y[:9], batch_size=8, verbose=0, return_dict=True)
    for name, value in expected(y[:9], y_pred[:9]).items():
        assert again[name] == pytest.approx(value, rel=1e-6), name


def test_fit_logs_both_sets_of_each_epoch():
    model = compiled(plain_model(), optimizer=keras.optimizers.SGD(0.0))
    x, y = data()
    history = model.fit(
        x, y, validation_data=(x[:20], y[:20]), batch_size=8, epochs=2, verbose=0
    ).history
    y_pred = model.predict(x, verbose=0)
    validated = expected(y[:20], y_pred[:20])
    for name, value in expected(y, y_pred).items():
        assert history[name] == pytest.approx([value] * 2, rel=1e-6)
        assert history[f"val_{name}"] == pytest.approx([validated[name]] * 2, rel=1e-6)


def test_weighted_metrics_see_the_weights():
    model = compiled(plain_model(), metrics=None, weighted_metrics=make_metrics())
    x, y = data()
    weights = np.random.choice([0.0, 0.5, 2.0], 50)
    logs = model.evaluate(
        x, y, sample_weight=weights, batch_size=8, verbose=0, return_dict=True
    )
    for name, value in expected(y, model.predict(x, verbose=0), weights).items():
        assert logs[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize("argument", ["head_metrics", "weighted_head_metrics"])
def test_metrics_of_every_head(argument):
    model = eh.multi_head(plain_model(), "hidden", num_heads=2)
    compiled(model, **{argument: make_metrics()})
    x, y = data()
    weights = np.random.choice([0.0, 0.5, 2.0], 50)
    logs = model.evaluate(
        x, y, sample_weight=weights, batch_size=8, verbose=0, return_dict=True
    )
    seen = weights if argument == "weighted_head_metrics" else None
    for head in range(2):
        y_pred = np.array(model.head_predictions(x))[:, head]
        for name, value in expected(y, y_pred, seen).items():
            key = f"head_{head}_{name}"
            assert logs[key] == pytest.approx(value, rel=1e-6), key
    assert logs["head_0_gap"] != logs["head_1_gap"]


@pytest.mark.parametrize("heads", [None, 2], ids=["single", "two heads"])
def test_a_compiled_model_is_saved_and_loaded(heads, tmp_path):
    model = plain_model()
    if heads:
        model = eh.multi_head(model, "hidden", num_heads=2)
    model = compiled(model, metrics=make_metrics(max_examples=64, refresh=0.5))
    x, y = data()
    before = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    after = again.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    assert set(NAMES) < set(before)
    assert after == pytest.approx(before, rel=1e-5)


def test_bad_labels_stop_evaluate():
    model = compiled(plain_model(), loss="mse")
    x, y = data()
    y[3, 2] = 0.5
    with pytest.raises(ValueError, match="`gap`: `y_true` must be multi-hot"):
        model.evaluate(x, y, verbose=0)
    y[3, 2] = 1.0
    assert model.evaluate(x, y, verbose=0)[1] > 0
