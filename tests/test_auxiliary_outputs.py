"""Auxiliary classifiers on trunk and heads: trained with the model, then left out."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import small_models
from tests.small_models import CLASSES, FEATURES

SPARSE = "sparse_categorical_crossentropy"
layers = keras.layers


def single(*places):
    """A network with auxiliary classifiers after some of its hidden layers."""
    inputs = keras.Input((FEATURES,), name="x")
    tensors = {}
    tensor = inputs
    for name, units in (("low", 8), ("shared", 7), ("high", 6), ("top", 5)):
        tensor = tensors[name] = layers.Dense(units, "tanh", name=name)(tensor)
    outputs = {"label": layers.Dense(CLASSES, "softmax", name="label")(tensor)}
    for name in places:
        classifier = layers.Dense(CLASSES, "softmax", name=f"{name}_label")
        outputs[f"{name}_label"] = classifier(tensors[name])
    return keras.Model(inputs, outputs)


def compiled(model, weight=0.3, **options):
    names = model.outputs_like.names
    model.compile(
        keras.optimizers.SGD(0.1),
        dict.fromkeys(names, SPARSE),
        loss_weights={name: 1.0 if name == "label" else weight for name in names},
        **options,
    )
    return model


def targets(model, y):
    return dict.fromkeys(model.outputs_like.names, y)


@pytest.mark.parametrize("place", ["low", "shared", "high"])
def test_loss_counts_the_auxiliary_classifier_by_its_weight(place):
    """In a head once for each head; on the trunk as often, as all losses do."""
    model = compiled(eh.multi_head(single(place), "shared", num_heads=3))
    x, y = small_models.classification_data()
    heads = model.head_predictions(x)
    own = {k: -np.log(np.array(p))[np.arange(24), :, y] for k, p in heads.items()}
    expected = own["label"].sum(1) + 0.3 * own[f"{place}_label"].sum(1)
    got = model.evaluate(x, targets(model, y), verbose=0, return_dict=True)["loss"]
    npt.assert_allclose(got, expected.mean(), rtol=1e-5)
    if place == "low":  # one classifier, which every head hands on
        p = np.array(heads[f"{place}_label"])
        npt.assert_array_equal(p[:, 0], p[:, 2])


@pytest.mark.parametrize("place", ["low", "shared", "high"])
def test_classifier_trains_what_is_below_it(place):
    model = compiled(eh.multi_head(single(place), "shared", num_heads=2))
    names = model.outputs_like.names
    weights = {name: float(name != "label") for name in names}
    model.compile("adam", dict.fromkeys(names, SPARSE), loss_weights=weights)
    x, y = small_models.classification_data()
    before = [np.array(w) for w in model.weights]
    options = {"epochs": 3, "verbose": 0}
    logs = model.fit(x, targets(model, y), **options).history[f"{place}_label_loss"]
    assert logs[-1] < logs[0]
    parts = {
        id(w): layer.name
        for m in (model.trunk, *model.heads)
        for layer in m.layers
        for w in layer.weights
    }
    moved = {
        parts[id(w)]
        for w, then in zip(model.weights, before)
        if (np.array(w) != then).any()
    }
    below = ["low", "shared", "high"]
    expected = set(below[: below.index(place) + 1])
    assert moved == expected | {f"{place}_label"}


@pytest.mark.parametrize("places", [("low",), ("shared", "top"), ("low", "high")])
def test_selected_output_is_that_of_the_network_without_them(places, tmp_path):
    whole = eh.multi_head(single(*places), "shared", num_heads=2, seed=1)
    x, y = small_models.classification_data()
    compiled(whole).fit(x, targets(whole, y), epochs=2, verbose=0)
    model = whole.select_outputs("label")
    expected = np.array(whole(x)["label"])
    npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-6)
    heads = np.array(whole.head_predictions(x)["label"])
    npt.assert_allclose(model.head_predictions(x), heads, rtol=1e-6)
    plain = eh.multi_head(single(), "shared", num_heads=2).select_outputs("label")
    for counted in ("parameters", "trainable_parameters", "flops"):
        ours, theirs = (getattr(eh.profile(m), counted) for m in (model, plain))
        assert ours == theirs < getattr(eh.profile(whole), counted)
    path = eh.export(model, tmp_path / "serving")
    serve = tf.saved_model.load(path).signatures["serving_default"]
    served = serve(x=tf.constant(x))
    assert set(served) == {"label"}
    npt.assert_allclose(served["label"], expected, rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    npt.assert_allclose(again(x), expected, rtol=1e-6)
    # The variables are shared, and training goes on without the others.
    model.compile("sgd", SPARSE)
    model.fit(x, y, verbose=0)
    npt.assert_allclose(model(x), whole(x)["label"], rtol=1e-6)


@pytest.mark.parametrize("places", [("low",), ("shared",), ("high", "top"), ("top",)])
def test_selected_output_of_a_tree(places):
    """Of what its branches share, too, nothing is left that leads to other outputs."""
    options = {"fork_at": ["low", ["shared", "high"]], "num_heads": 2}
    whole = eh.multi_head(single(*places), **options)
    model, x = whole.select_outputs("label"), small_models.classification_data()[0]
    expected = np.array(whole.head_predictions(x)["label"])
    npt.assert_allclose(model.head_predictions(x), expected, rtol=1e-6)
    plain = eh.multi_head(single(), **options)
    mine, theirs = eh.profile(model), eh.profile(plain)
    assert mine.branches == theirs.branches
    assert {id(w) for w in model.weights} < {id(w) for w in whole.weights}


def test_several_outputs_stay_a_structure():
    model = eh.multi_head(single("low", "high"), "shared")
    x, _ = small_models.classification_data()
    some = model.select_outputs(["label", "high_label"])
    whole, part = model(x), some(x)
    assert set(part) == {"label", "high_label"}
    for name, values in part.items():
        npt.assert_allclose(values, whole[name], rtol=1e-6)


def test_gated_ensemble_with_classifiers_on_its_heads():
    names = ["high_label", "label"]
    gates = {name: eh.ensemblers.Gated() for name in names}
    model = eh.multi_head(single("high"), "shared", ensembler=gates)
    x, y = small_models.classification_data()
    compiled(model, ensemble_loss=eh.losses.OnTheFly(2.0))
    model.fit(x, targets(model, y), verbose=0)
    served = model.select_outputs("label")
    assert served.ensembler is gates["label"]
    npt.assert_allclose(served(x), model(x)["label"], rtol=1e-6)


@pytest.mark.parametrize("names", ["size", [], ["label", "label"], ["label", "size"]])
def test_unknown_outputs(names):
    model = eh.multi_head(single("low"), "shared")
    with pytest.raises(ValueError, match="`names` must be of the outputs.*'low_label'"):
        model.select_outputs(names)
