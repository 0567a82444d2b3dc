"""Greedy selection of heads on held-out data."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from tests import small_models

SPARSE = "sparse_categorical_crossentropy"


def by_hand(p, y, weights=None, most=99):
    """Forward selection over mean probabilities `[examples, heads, classes]`."""
    chosen, best = [], np.inf
    while len(chosen) < min(most, p.shape[1]):
        losses = {}
        for head in set(range(p.shape[1])) - set(chosen):
            mean = p[:, [*chosen, head]].mean(1)[np.arange(len(y)), y]
            own = -np.log(mean)
            losses[head] = (own if weights is None else own * weights).mean()
        head = min(losses, key=losses.get)
        if losses[head] >= best:
            break
        best = losses[head]
        chosen.append(head)
    return chosen


def varied_model(num_heads=6):
    model = small_models.dense_model(num_heads)
    for head in model.heads:
        head.set_weights([np.random.normal(size=w.shape) for w in head.weights])
    model.compile("sgd", SPARSE)
    return model


@pytest.mark.parametrize("weighted", [False, True])
def test_heads_are_those_of_a_search_by_hand(weighted):
    found = set()
    for seed in range(5):
        np.random.seed(seed)
        model = varied_model()
        x, y = small_models.classification_data(50)
        weights = np.random.uniform(0, 2, 50).astype("float32") if weighted else None
        data = (x, y, weights) if weighted else (x, y)
        p = np.array(model.head_predictions(x), "float64")
        expected = by_hand(p, y, weights)
        assert eh.greedy_heads(model, data) == expected
        batches = tf.data.Dataset.from_tensor_slices(data).batch(16)
        assert eh.greedy_heads(model, batches) == expected
        assert eh.greedy_heads(model, small_models.Batches(*data)) == expected
        assert eh.greedy_heads(model, data, max_heads=1) == expected[:1]
        found.add(len(expected))
        kept = model.select_heads(expected)
        kept.compile("sgd", SPARSE, metrics=[SPARSE])
        model.compile("sgd", SPARSE, metrics=[SPARSE])
        results = [
            one.evaluate(x, y, sample_weight=weights, verbose=0)[1]
            for one in (kept, model)
        ]
        assert weighted or results[0] <= results[1]
    assert len(found) > 1  # neither always one head nor always all


def test_labels_that_have_no_weight_may_be_anything():
    np.random.seed(0)
    model = varied_model()
    x, y = small_models.classification_data(50)
    weights = np.where(np.arange(50) < 9, 0, 1).astype("float32")
    expected = eh.greedy_heads(model, (x, y, weights))
    assert len(expected) > 1
    y[:9] = 255
    for same in (weights, weights.astype(bool)):
        assert eh.greedy_heads(model, (x, y, same)) == expected


def test_several_outputs_count_by_their_weights():
    model = small_models.several_outputs_model(dict, num_heads=4)
    x = {n: np.random.normal(size=(30, k)) for n, k in (("left", 3), ("right", 2))}
    y = {"label": np.random.randint(0, 3, 30), "size": np.random.normal(size=(30, 1))}
    chosen = []
    for weights in ({"label": 1.0, "size": 0.0}, {"label": 0.0, "size": 1.0}):
        model.compile("sgd", {"label": SPARSE, "size": "mse"}, loss_weights=weights)
        chosen.append(eh.greedy_heads(model, (x, y), max_heads=1)[0])
    heads = model.head_predictions(x)
    own = -np.log(np.array(heads["label"])[np.arange(30), :, y["label"]]).mean(0)
    apart = ((np.array(heads["size"]) - y["size"][:, None]) ** 2).mean((0, 2))
    assert chosen == [own.argmin(), apart.argmin()]


def test_bad_input():
    x, y = small_models.classification_data()
    with pytest.raises(ValueError, match="`model` must be compiled"):
        eh.greedy_heads(small_models.dense_model(2), (x, y))
    gated = small_models.dense_model(2, ensembler="gated")
    gated.compile("sgd", SPARSE)
    with pytest.raises(ValueError, match="ensembler without weights.*gated"):
        eh.greedy_heads(gated, (x, y))
    model = varied_model(2)
    for count in (0, 1.5, True):
        with pytest.raises(ValueError, match="`max_heads` must be an integer"):
            eh.greedy_heads(model, (x, y), max_heads=count)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    with pytest.raises(ValueError, match="`data` must have an end"):
        eh.greedy_heads(model, endless)
    with pytest.raises(ValueError, match="`data` must be a tf.data.Dataset"):
        eh.greedy_heads(model, iter([(x, y)]))
    nothing = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).take(0)
    with pytest.raises(ValueError, match="`data` must hold at least one batch"):
        eh.greedy_heads(model, nothing)
