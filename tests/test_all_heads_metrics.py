"""Metrics that see all heads at once: against loops, and as `compile` feeds them."""

import itertools

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from ensemble_heads import metrics
from ensemble_heads.keras_api import keras
from tests import small_models

KINDS = (metrics.OracleAccuracy, metrics.MeanHeadAccuracy, metrics.HeadDisagreement)
ALL = pytest.mark.parametrize("kind", KINDS)


def value_of(kind, label, said):
    """The number of one example from its class and those that the heads predict."""
    if kind is metrics.OracleAccuracy:
        return float(label in said)
    if kind is metrics.MeanHeadAccuracy:
        return np.mean([one == label for one in said])
    return np.mean([a != b for a, b in itertools.combinations(said, 2)])


def drawn(*positions, heads=4, classes=3):
    scores = np.random.normal(size=(9, heads, *positions, classes)).astype("float32")
    return np.random.randint(0, classes, (9, *positions)), scores


def result(metric, *batches):
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


@ALL
def test_against_a_loop(kind):
    labels, scores = drawn()
    values = [value_of(kind, g, z.argmax(axis=-1)) for g, z in zip(labels, scores)]
    batches = (labels[:4], scores[:4]), (labels[4:], scores[4:])
    npt.assert_allclose(result(kind(), *batches), np.mean(values), rtol=1e-6)
    weights = np.random.uniform(size=9)
    expected = np.average(values, weights=weights)
    for given in (weights, weights[:, None]):
        npt.assert_allclose(result(kind(), (labels, scores, given)), expected, 1e-6)


@ALL
def test_every_form_of_labels(kind):
    labels, scores = drawn()
    expected = result(kind(), (labels, scores))
    for form in (labels[:, None], np.eye(3)[labels], labels.astype("float32")):
        assert result(kind(), (form, scores)) == expected


@ALL
def test_positions(kind):
    labels, scores = drawn(5)
    weights = np.random.uniform(size=(9, 5))
    values = [
        [value_of(kind, labels[i, j], scores[i, :, j].argmax(-1)) for j in range(5)]
        for i in range(9)
    ]
    expected = np.average(values, weights=weights)
    for form in (labels, np.eye(3)[labels]):
        npt.assert_allclose(result(kind(), (form, scores, weights)), expected, 1e-6)
    by_example = np.random.uniform(size=9)
    expected = np.average(np.mean(values, axis=1), weights=by_example)
    npt.assert_allclose(result(kind(), (labels, scores, by_example)), expected, 1e-6)


@ALL
def test_one_unit(kind):
    labels, scores = drawn(classes=1)
    labels = np.arange(9) % 2
    for threshold in (0.5, 0.0):
        said = scores[..., 0] > threshold
        expected = np.mean([value_of(kind, g, z) for g, z in zip(labels, said)])
        for form in (labels, labels[:, None]):
            value = result(kind(threshold), (form, scores))
            npt.assert_allclose(value, expected, rtol=1e-6)


@ALL
def test_merged_state(kind):
    labels, scores = drawn()
    parts = kind(), kind()
    parts[0].update_state(labels[:2], scores[:2])
    parts[1].update_state(labels[2:], scores[2:])
    parts[0].merge_state([parts[1]])
    npt.assert_allclose(parts[0].result(), result(kind(), (labels, scores)))


def test_one_head_never_disagrees():
    assert result(metrics.HeadDisagreement(), drawn(heads=1)) == 0


def test_bad_input():
    labels, scores = drawn()
    metric = metrics.OracleAccuracy()
    for batch, message in [
        ((labels, scores[:, 0]), "`y_pred` must be the predictions of all heads"),
        ((labels[:3], scores), "`y_true` must be of shape"),
        ((np.ones([9, 2]), scores), "`y_true` must be of shape"),
        ((labels, scores, np.ones([9, 4])), "`sample_weight` must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.update_state(*batch)
    with pytest.raises(ValueError, match="`threshold` must be a number"):
        metrics.OracleAccuracy(threshold="half")


@ALL
def test_values_without_sense_are_refused(kind):
    """argmax takes NaN for the highest score, and the first of several labels."""
    labels, scores = drawn()
    absent, hot = scores.copy(), np.eye(3)[labels]
    absent[4, 1, 0] = np.nan
    hot[2] = 1
    for batch, message in [
        ((labels, absent), "`y_pred` must not be NaN"),
        ((labels + 3, scores), "`y_true` must be class numbers from 0"),
        ((labels - 3, scores), "`y_true` must be class numbers from 0"),
        ((labels + 0.5, scores), "`y_true` must be class numbers from 0"),
        ((hot, scores), "`y_true` must be .* one highest class"),
        ((labels, scores, -np.ones(9)), "`sample_weight` must be finite"),
        ((labels, scores, np.full(9, np.nan)), "`sample_weight` must be finite"),
    ]:
        if "y_true" in message and not kind.uses_labels:
            continue
        with pytest.raises(ValueError, match=f"{message}.*Received: other .* 1 batch"):
            result(kind(), (labels, scores), batch)
    # Where the weight is 0, nothing is looked at.
    weights = np.arange(9) != 4
    expected = result(kind(), (labels, scores, weights))
    assert result(kind(), (labels, absent, weights)) == expected
    soft = 0.9 * np.eye(3)[labels] + 0.1 / 3
    assert result(kind(), (soft, scores)) == result(kind(), (labels, scores))


# ---- In `compile`


def compiled(model=None, loss="sparse_categorical_crossentropy", **kwargs):
    model = model or small_models.dense_model(3)
    model.compile("sgd", loss, **kwargs)
    return model


def evaluate(model, *data, **kwargs):
    return model.evaluate(*data, verbose=0, return_dict=True, **kwargs)


def by_hand(kind, model, x, labels):
    said = np.array(model.head_predictions(x)).argmax(axis=-1)
    return [value_of(kind, g, z) for g, z in zip(labels, said)]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compile_feeds_all_heads_at_once(jit_compile):
    wanted = ["accuracy", *(kind() for kind in KINDS)]
    model = compiled(head_metrics=wanted, jit_compile=jit_compile)
    x, labels = small_models.classification_data(20)
    logs = evaluate(model, x, labels, batch_size=8)
    heads = [f"head_{i}_accuracy" for i in range(3)]
    names = [kind().name for kind in KINDS]
    assert set(logs) == {"loss", *heads, *names}
    for kind, name in zip(KINDS, names):
        expected = np.mean(by_hand(kind, model, x, labels))
        npt.assert_allclose(logs[name], expected, rtol=1e-5)
    mean = np.mean([logs[head] for head in heads])
    npt.assert_allclose(logs["mean_head_accuracy"], mean, rtol=1e-5)
    history = model.fit(x, labels, verbose=0, validation_data=(x, labels)).history
    assert "val_oracle_accuracy" in history


def test_the_same_as_the_analyses_say():
    model = compiled(head_metrics=[kind() for kind in KINDS])
    data = small_models.classification_data(20)
    logs = evaluate(model, *data)
    said = eh.analyses.collect(model, data, verbose=0)
    found = eh.analyses.accuracies(said)
    differ = eh.analyses.mean_disagreement(eh.analyses.disagreement(said))
    values = [logs[kind().name] for kind in KINDS]
    npt.assert_allclose(values, [found.oracle, found.mean, differ], rtol=1e-5)


def test_weighted_and_by_class():
    model = compiled(
        head_metrics=[metrics.HeadDisagreement],
        weighted_metrics=[metrics.OracleAccuracy()],
        metrics=[metrics.OracleAccuracy(name="plain")],
    )
    x, labels = small_models.classification_data(20)
    weights = np.random.uniform(size=20)
    logs = evaluate(model, x, labels, sample_weight=weights)
    values = by_hand(metrics.OracleAccuracy, model, x, labels)
    expected = np.average(values, weights=weights)
    npt.assert_allclose(logs["oracle_accuracy"], expected, rtol=1e-5)
    npt.assert_allclose(logs["plain"], np.mean(values), rtol=1e-5)
    assert "head_disagreement" in logs


def test_several_outputs():
    model = small_models.several_outputs_model(dict)
    x = {"left": np.random.normal(size=(9, 3)), "right": np.random.normal(size=(9, 2))}
    y = {"label": np.arange(9) % 3, "size": np.zeros([9, 1])}
    loss = {"label": "sparse_categorical_crossentropy", "size": "mse"}
    compiled(model, loss, head_metrics={"label": [metrics.OracleAccuracy()]})
    said = np.array(model.head_predictions(x)["label"]).argmax(axis=-1)
    expected = np.mean([g in z for g, z in zip(y["label"], said)])
    logs = evaluate(model, x, y)
    npt.assert_allclose(logs["label_oracle_accuracy"], expected, rtol=1e-5)


def test_masked_positions_do_not_count():
    layers = keras.layers
    inputs = keras.Input((4,), dtype="int32")
    embedded = layers.Embedding(9, 5, mask_zero=True)(inputs)
    shared = layers.Dense(6, name="shared", activation="tanh")(embedded)
    outputs = layers.Dense(3, activation="softmax")(shared)
    model = eh.multi_head(keras.Model(inputs, outputs), fork_at="shared")
    compiled(
        model,
        metrics=["accuracy"],
        head_metrics=["accuracy", metrics.MeanHeadAccuracy(), metrics.OracleAccuracy()],
    )
    x = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]], "int32")
    labels = np.arange(12).reshape(3, 4) % 3
    said = np.array(model.head_predictions(x)).argmax(axis=-1)
    right = (said == labels[:, None]).any(axis=1)[x != 0]
    logs = evaluate(model, x, labels)
    npt.assert_allclose(logs["oracle_accuracy"], np.mean(right), rtol=1e-5)
    each = [logs["head_0_accuracy"], logs["head_1_accuracy"]]
    npt.assert_allclose(logs["mean_head_accuracy"], np.mean(each), rtol=1e-5)


def test_labels_that_the_loss_ignores_do_not_count():
    loss = eh.losses.SparseCategoricalCrossentropy(ignore_class=255)
    model = compiled(loss=loss, head_metrics=[kind() for kind in KINDS])
    x, labels = small_models.classification_data(20)
    expected = evaluate(model, x[5:], labels[5:])
    labels[:5] = 255
    found = evaluate(model, x, labels)
    assert found == pytest.approx(expected, rel=1e-5)


def test_disagreement_takes_what_is_no_label():
    labels, said = drawn()
    expected = result(metrics.HeadDisagreement(), (labels, said))
    found = result(metrics.HeadDisagreement(), (np.full(9, -1), said))
    assert found == expected > 0


def test_saved_and_loaded(tmp_path):
    model = compiled(head_metrics=["accuracy", metrics.OracleAccuracy(name="any")])
    x, labels = small_models.classification_data(20)
    before = evaluate(model, x, labels)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    after = evaluate(again, x, labels)
    assert set(after) == set(before) and "any" in after
    npt.assert_allclose(after["any"], before["any"])


def test_on_two_devices(run_on_two_devices):
    one, two = run_on_two_devices(
        """
        import numpy as np
        from tests import small_models
        from tests.test_all_heads_metrics import KINDS

        np.random.seed(0)
        data = small_models.classification_data(22)
        weights, result = None, []
        for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(
                ["CPU:0", "CPU:1"])):
            with strategy.scope():
                model = small_models.dense_model(3)
                model.compile("sgd", "sparse_categorical_crossentropy",
                              head_metrics=[kind() for kind in KINDS])
            if weights is None:
                weights = model.get_weights()
            model.set_weights(weights)
            logs = model.evaluate(*data, batch_size=6, verbose=0, return_dict=True)
            result.append({name: float(value) for name, value in logs.items()})
        """
    )
    assert set(one) == {"loss", *(kind().name for kind in KINDS)}
    for name, value in one.items():
        npt.assert_allclose(two[name], value, rtol=1e-5)
