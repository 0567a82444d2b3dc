"""What tests of folding share: models of random weights, and the comparison."""

import numpy as np

from ensemble_heads import folding
from ensemble_heads.keras_api import keras

layers = keras.layers


def norm(name="norm", **options):
    return layers.BatchNormalization(name=name, **options)


def randomise(model, seed=0):
    """Weights and statistics that a mistake cannot hide behind."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for weight in getattr(layer, "weights", []):
            if layer.weights and not _holds_others(layer):
                positive = "variance" in weight.name or "gamma" in weight.name
                draw = rng.uniform(0.3, 2.0, weight.shape) if positive else None
                draw = rng.normal(0, 0.5, weight.shape) if draw is None else draw
                weight.assign(draw)
    return model


def _holds_others(layer):
    return len(list(layer._flatten_layers(include_self=False))) > 0


def draw_inputs(model, seed=1, batch=3):
    rng = np.random.default_rng(seed)
    draws = [
        rng.normal(0.3, 1.0, [batch, *(size or 8 for size in tensor.shape[1:])])
        for tensor in model.inputs
    ]
    return draws[0] if len(draws) == 1 else draws


def check_equal(model, folded, tolerance=2e-5, inputs=None):
    inputs = draw_inputs(model) if inputs is None else inputs
    expected, actual = model(inputs), folded(inputs)
    flat = zip(_flat(expected), _flat(actual), strict=True)
    for want, got in flat:
        want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


def _flat(outputs):
    if isinstance(outputs, dict):
        assert list(outputs) == sorted(outputs)
        return list(outputs.values())
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def folds(model, left=0, tolerance=2e-5):
    """The folded model, checked to be equal and to have `left` batch norms."""
    randomise(model)
    before = [np.array(weight) for weight in model.get_weights()]
    config = str(model.get_config())
    folded = folding.fold_batch_norm(model)
    names = [layer.name for layer in folding.batch_norms_in(folded)]
    assert len(names) == left
    assert {u.name for u in folding.unfolded_batch_norms(model)} == set(names)
    assert {u.name for u in folding.unfolded_batch_norms(folded)} == set(names)
    check_equal(model, folded, tolerance)
    assert str(model.get_config()) == config
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(w) for w in model.weights} & {id(w) for w in folded.weights}
    return folded


def reasons(model):
    return {u.name: u.reason for u in folding.unfolded_batch_norms(model)}
