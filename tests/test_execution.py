"""The argument `execution` of models: the same model, run in another way."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.head_layouts import arranging, measuring
from ensemble_heads.keras_api import keras
from tests import small_models

layers = keras.layers
Mean = eh.ensemblers.Mean


def single():
    """Four units behind the layer `shared`, and a batch norm."""
    inputs = keras.Input((small_models.FEATURES,), name="x")
    x = layers.Dense(8, activation="relu", name="shared")(inputs)
    x = layers.BatchNormalization()(layers.Dense(4)(x))
    x = layers.Dense(small_models.CLASSES, activation="softmax", name="out")(x)
    return keras.Model(inputs, x)


def models(**arguments):
    """The same model, separate and stacked."""
    arguments = {"num_heads": 3, "seed": 5, **arguments}
    upper = single()
    return [
        eh.multi_head(upper, "shared", execution=execution, **arguments)
        for execution in ("separate", "stacked")
    ]


def trained(model, loss=None, epochs=2, **arguments):
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        ensemble_loss=loss,
        metrics=["accuracy"],
        head_metrics=["accuracy"],
        **arguments,
    )
    keras.utils.set_random_seed(0)
    data = small_models.classification_data()
    return model.fit(*data, epochs=epochs, batch_size=8, shuffle=False, verbose=0)


def same_weights(one, other, atol=1e-5):
    pairs = zip(one.with_execution("separate").heads, other.heads, strict=True)
    for head, expected in pairs:
        for a, b in zip(head.get_weights(), expected.get_weights(), strict=True):
            npt.assert_allclose(a, b, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("copy_weights", [False, True])
def test_a_seed_gives_the_same_model(copy_weights):
    upper = single()
    pair = [
        eh.multi_head(
            upper,
            "shared",
            num_heads=3,
            seed=5,
            width_multiplier=0.5,
            copy_weights=copy_weights,
            execution=execution,
        )
        for execution in ("separate", "stacked")
    ]
    assert [model.wrapper.execution for model in pair] == ["separate", "stacked"]
    same_weights(pair[1], pair[0], atol=0)
    first, second = (head.get_weights()[0] for head in pair[1].heads[:2])
    assert np.array_equal(first, second) == copy_weights


def test_drawn_anew_the_heads_stay_those_of_the_seed():
    separate, stacked = models()
    again = eh.MultiHeadWrapper.from_config(stacked.wrapper.get_config())
    for head, expected in zip(again.heads, separate.heads, strict=True):
        for a, b in zip(head.get_weights(), expected.get_weights(), strict=True):
            npt.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "loss",
    [eh.losses.Ensembling(-0.5), eh.losses.Modular(0.7), eh.losses.CoDistillation(1.0)],
    ids=str,
)
def test_training_is_the_same(loss):
    separate, stacked = models(ensembler=Mean("logits"))
    logs = [trained(model, loss).history for model in (separate, stacked)]
    assert set(logs[0]) == set(logs[1]) and "head_2_accuracy" in logs[0]
    for key, values in logs[0].items():
        npt.assert_allclose(logs[1][key], values, rtol=1e-4)
    assert logs[0]["loss"][1] < logs[0]["loss"][0]
    same_weights(stacked, separate)


def test_training_under_xla():
    logs = [
        trained(model, jit_compile=model.wrapper.execution == "stacked").history["loss"]
        for model in models()
    ]
    npt.assert_allclose(logs[1], logs[0], rtol=1e-4)


def test_weights_convert_both_ways():
    separate, stacked = models()
    trained(separate)
    x = small_models.classification_data()[0]
    there = separate.with_execution("stacked")
    back = there.with_execution("separate")
    for model in (there, back):
        npt.assert_allclose(
            model.head_predictions(x), separate.head_predictions(x), atol=1e-6
        )
    same_weights(there, separate, atol=0)
    assert there.wrapper.execution == "stacked" and back.wrapper.execution == "separate"
    trained(there)  # has variables of its own
    assert np.abs(there(x) - separate(x)).max() > 1e-3
    npt.assert_allclose(back(x), separate(x), atol=1e-6)


def test_heads_and_selections_of_a_stacked_model():
    model = models()[1]
    x = small_models.classification_data()[0]
    said = np.array(model.head_predictions(x))
    npt.assert_allclose(model.head(2)(x), said[:, 2], atol=1e-6)
    npt.assert_allclose(
        model.select_heads([2, 0]).head_predictions(x), said[:, [2, 0]], atol=1e-6
    )


def test_a_stacked_model_comes_back_from_a_file_and_goes_on(tmp_path):
    model = models()[1]
    trained(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.wrapper.execution == "stacked"
    data = small_models.classification_data()
    for one in (model, again):
        one.fit(*data, batch_size=8, shuffle=False, verbose=0)
    npt.assert_allclose(again(data[0]), model(data[0]), atol=1e-6)


def test_a_checkpoint_holds_stacked_heads(tmp_path):
    model, other = models()[1], models(seed=6)[1]
    trained(model)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=other).restore(path)
    x = small_models.classification_data()[0]
    npt.assert_array_equal(other(x), model(x))


def test_folded_profiled_and_exported(tmp_path):
    separate, stacked = models()
    trained(stacked)
    x = small_models.classification_data()[0]
    folded = eh.fold_batch_norm(stacked)
    npt.assert_allclose(folded(x), stacked(x), rtol=1e-4, atol=1e-5)
    assert not eh.unfolded_batch_norms(stacked)
    profiles = [eh.profile(model) for model in (separate, stacked)]
    assert profiles[0].parameters == profiles[1].parameters
    assert profiles[0].flops == profiles[1].flops > 0
    path = eh.export(stacked, tmp_path / "serving", heads=[0, 2])
    served = tf.saved_model.load(path).signatures["heads"](x=tf.constant(x))
    expected = np.array(stacked.head_predictions(x))[:, [0, 2]]
    npt.assert_allclose(served["out"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "faster, slower", [("separate", "stacked"), ("stacked", "separate")]
)
def test_auto_takes_what_is_measured_as_faster(monkeypatch, faster, slower):
    times = {faster: 1.0, slower: 2.0}
    monkeypatch.setattr(
        measuring, "seconds", lambda steps: [times["separate"], times["stacked"]]
    )
    model = eh.multi_head(single(), "shared", num_heads=3, execution="auto")
    assert model.wrapper.execution == faster
    assert model.wrapper.execution_choice.seconds == times


def test_auto_stays_separate_where_the_difference_is_small(monkeypatch):
    monkeypatch.setattr(measuring, "seconds", lambda steps: [1.0, 0.95])
    model = eh.multi_head(single(), "shared", num_heads=3, execution="auto")
    assert model.wrapper.execution == "separate"
    one = eh.multi_head(single(), "shared", num_heads=1, execution="auto")
    assert one.wrapper.execution_choice.reason == "there is one head"


def test_auto_looks_at_the_heads_that_it_does_not_measure(monkeypatch):
    monkeypatch.setattr(measuring, "seconds", lambda steps: [2.0, 1.0])
    monkeypatch.setattr(arranging, "_MEASURED_HEADS", 2)
    heads = [small_models.dense_head(4, width=width) for width in (5, 5, 3)]
    for count, way in ((2, "stacked"), (3, "separate")):
        wrapper = eh.MultiHeadWrapper.from_heads(
            heads[:count], "softmax", execution="auto"
        )
        assert (wrapper.execution, wrapper.num_heads) == (way, count)
    assert "head_0 and head_2, which differ" in wrapper.execution_choice.reason


def test_auto_measures_steps_that_take_their_time():
    def busy():
        return tf.linalg.matmul(*[tf.ones([700, 700])] * 2)

    slow, quick = measuring.seconds([busy, lambda: tf.zeros([])])
    assert slow > quick > 0


def test_automatic_widths_and_stacked_heads_go_together():
    upper = single()
    found = [
        eh.multi_head(
            upper, "shared", width_multiplier="auto", divisor=1, seed=1, execution=way
        )
        for way in ("separate", "stacked")
    ]
    assert found[0].width_multiplier == found[1].width_multiplier
    assert found[1].wrapper.execution == "stacked"
    same_weights(found[1], found[0], atol=0)


def test_hundreds_of_heads_are_made_at_once():
    model = eh.multi_head(single(), "shared", num_heads=200, execution="stacked")
    x = small_models.classification_data()[0]
    assert np.std(np.array(model.head_predictions(x))[0], axis=0).min() > 0


@pytest.mark.parametrize("execution", ["stack", None])
def test_unknown_executions_are_refused(execution):
    with pytest.raises(ValueError, match="`execution` must be one of"):
        eh.multi_head(single(), "shared", execution=execution)
    with pytest.raises(ValueError, match="`execution` must be one of"):
        eh.MultiHeadWrapper(single(), execution=execution)


@pytest.mark.parametrize("kind", [dict, list], ids=["dict", "list"])
def test_several_outputs(kind):
    separate = small_models.several_outputs_model(kind)
    stacked = separate.with_execution("stacked")
    x = kind({"left": np.ones([2, 3]), "right": np.ones([2, 2])}.items())
    x = x if kind is dict else [array for _, array in x]
    expected = separate.head_predictions(x)
    said = stacked.head_predictions(x)
    tf.nest.map_structure(
        lambda a, b: npt.assert_allclose(a, b, rtol=1e-5), said, expected
    )
    label = stacked.select_outputs("label")
    assert label.wrapper.execution == "stacked"
    npt.assert_allclose(label(x), tf.nest.flatten(separate(x))[0], rtol=1e-5)


def test_trees_run_as_they_are():
    model = small_models.dense_tree()
    assert model.wrapper.execution == "tree"
    assert model.with_execution("auto").wrapper.execution == "tree"
    with pytest.raises(ValueError, match='must not be "stacked" for a tree'):
        model.with_execution("stacked")
    arguments = {"num_heads": [2, 2], "seed": 1}
    forks = ["shared", "dense_of_branch"]
    inputs = keras.Input((small_models.FEATURES,), name="x")
    x = layers.Dense(8, activation="relu", name=forks[0])(inputs)
    x = layers.Dense(4, name=forks[1])(x)
    upper = keras.Model(inputs, layers.Dense(3)(x))
    tree = eh.multi_head(upper, forks, execution="auto", **arguments)
    assert tree.wrapper.execution == "tree" and tree.num_heads == 4
    with pytest.raises(ValueError, match='must not be "stacked" for a tree'):
        eh.multi_head(upper, forks, execution="stacked", **arguments)
