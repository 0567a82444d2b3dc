"""Exports: what is loaded back predicts what the live model predicts."""

import os
import pathlib
import stat

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import ensemble_heads as eh
from ensemble_heads import exporting
from ensemble_heads.keras_api import keras

layers = keras.layers

LOAD_ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ensemble_heads", "zoo"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Refuse())
import numpy as np
import tensorflow as tf

try:
    import ensemble_heads
except ImportError:
    pass
else:
    raise AssertionError("ensemble_heads can be imported")
directory, given, results = sys.argv[1:]
loaded = tf.saved_model.load(directory)
image = tf.constant(np.load(given))
np.savez(
    results,
    **{name: sign(image=image)["scores"] for name, sign in loaded.signatures.items()},
)
"""


def make_single():
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, name="stem")(x)
    x = layers.ReLU(name="stem_out")(layers.BatchNormalization(name="n0")(x))
    x = layers.Conv2D(8, 3, name="conv")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="n1")(x))
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = layers.Dense(5, activation="softmax", name="scores")(x)
    return randomised(keras.Model(inputs, x, name="single"))


def make_ensemble():
    single = make_single()
    return randomised(eh.multi_head(single, "stem_out", 3, width_multiplier=0.5))


@pytest.fixture(scope="module")
def model():
    """A multi-headed model that no test changes."""
    return make_ensemble()


def randomised(model):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        is_scale = "variance" in weight.name or "gamma" in weight.name
        draw = rng.uniform(0.5, 1.5, weight.shape) if is_scale else None
        draw = rng.normal(0, 0.2, weight.shape) if draw is None else draw
        weight.assign(draw)
    return model


def images(batch=4):
    draw = np.random.default_rng(1).normal(size=(batch, 8, 8, 3))
    return draw.astype(np.float32)


def signatures(directory):
    # The loaded object owns the variables, so it must outlive its signatures.
    loaded = tf.saved_model.load(str(directory))
    return {
        name: lambda keep=loaded, call=call, **inputs: call(**inputs)
        for name, call in loaded.signatures.items()
    }


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("freeze", [True, False])
def test_ensemble_and_heads_equal_the_live_model(tmp_path, model, fold, freeze):
    path = tmp_path / "serving" / "1"
    path = eh.export(model, path, fold_batch_norm=fold, freeze=freeze)
    assert path == str(tmp_path / "serving" / "1")
    served = signatures(path)
    assert set(served) == {"serving_default", "heads"}
    for batch in (1, 4, 7):
        x = images(batch)
        ensemble, heads = (served[name](image=tf.constant(x)) for name in served)
        if "heads" == next(iter(served)):
            ensemble, heads = heads, ensemble
        assert set(ensemble) == set(heads) == {"scores"}
        assert heads["scores"].shape == (batch, 3, 5)
        close(ensemble["scores"], model(x))
        close(heads["scores"], model.head_predictions(x))
    assert np.ptp(np.array(model.head_predictions(images())), axis=1).max() > 0.01


def test_folding_drops_the_statistics(tmp_path, model):
    folded = tf.saved_model.load(eh.export(model, tmp_path / "folded"))
    path = eh.export(model, tmp_path / "unfolded", fold_batch_norm=False)
    unfolded = tf.saved_model.load(path)
    size = {
        id(module): sum(int(tf.size(v)) for v in module.weights)
        for module in (folded, unfolded)
    }
    profile = eh.profile(model)
    assert size[id(folded)] == profile.folded_parameters
    assert size[id(unfolded)] == profile.total_parameters


def test_frozen_weights_are_constants_and_there_once(tmp_path, model):
    path = eh.export(model, tmp_path / "frozen", freeze=True)
    loaded = tf.saved_model.load(path)
    assert list(loaded.weights) == []
    functions = {key: sign.graph for key, sign in loaded.signatures.items()}
    assert not any(graph.variables for graph in functions.values())
    # Both signatures call one function, so that no weight is written twice.
    bytes_of_weights = 4 * eh.profile(model).folded_parameters
    graph = saved_model_pb2.SavedModel.FromString(
        (tmp_path / "frozen" / "saved_model.pb").read_bytes()
    ).meta_graphs[0]
    constants = sum(
        int(tf.make_ndarray(node.attr["value"].tensor).nbytes)
        for function in graph.graph_def.library.function
        for node in function.node_def
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum
    )
    assert bytes_of_weights <= constants < 1.2 * bytes_of_weights


def test_more_weights_than_a_graph_can_hold(tmp_path, model, monkeypatch):
    monkeypatch.setattr(exporting, "_MOST_CONSTANTS", 100)
    with pytest.raises(ValueError, match="`freeze` must be False.*Received: freeze=T"):
        eh.export(model, tmp_path / "large", freeze=True)
    assert list(tmp_path.iterdir()) == []


def test_loads_without_this_package(tmp_path, run_python, model):
    path = eh.export(model, tmp_path / "alone")
    np.save(tmp_path / "given.npy", images())
    results = tmp_path / "results.npz"
    run_python(LOAD_ALONE, path, tmp_path / "given.npy", results)
    with np.load(results) as loaded:
        close(loaded["serving_default"], model(images()))
        close(loaded["heads"], model.head_predictions(images()))


def test_one_branch_of_a_gated_ensemble(tmp_path):
    gate = eh.ensemblers.Gated()
    model = eh.multi_head(make_single(), "stem_out", 3, ensembler=gate)
    served = signatures(eh.export(model, tmp_path / "one", heads=[1]))
    x = images()
    got = served["serving_default"](image=tf.constant(x))["scores"]
    close(got, np.array(model.head_predictions(x))[:, 1])
    with pytest.raises(ValueError, match="`indices` must name all heads, .* or one"):
        eh.export(model, tmp_path / "two", heads=[0, 1])


@pytest.mark.parametrize(
    "name, served_as",
    [("my-input", "my_input"), ("1a", "input_1a"), ("class", "class_")],
)
def test_inputs_with_names_that_no_argument_can_have(tmp_path, name, served_as):
    inputs = keras.Input((3,), name=name)
    plain = keras.Model(inputs, layers.Dense(2, name="scores")(inputs))
    served = signatures(eh.export(plain, tmp_path / "plain"))["serving_default"]
    x = np.random.normal(size=(2, 3)).astype("float32")
    close(served(**{served_as: tf.constant(x)})["scores"], plain(x))


@pytest.mark.parametrize("heads", [1, [2, 0]])
def test_some_heads(tmp_path, model, heads):
    served = signatures(eh.export(model, tmp_path / "some", heads=heads))
    x = images()
    indices = [heads] if np.ndim(heads) == 0 else list(heads)
    expected = np.array(model.head_predictions(x))[:, indices]
    close(served["heads"](image=tf.constant(x))["scores"], expected)
    mean = expected.mean(axis=1)
    close(served["serving_default"](image=tf.constant(x))["scores"], mean)
    assert model.num_heads == 3


@pytest.mark.parametrize(
    "heads, indices",
    [(-1, [2]), ((0,), [0]), (np.int64(2), [2]), (range(2), [0, 1])],
)
def test_ways_to_name_heads(model, heads, indices):
    chosen = exporting.model_of_heads(model, heads)
    x = images()
    expected = np.array(model.head_predictions(x))[:, indices]
    close(chosen.head_predictions(x), expected, atol=0)


def test_plain_model_has_one_signature(tmp_path):
    model = make_single()
    served = signatures(eh.export(model, tmp_path / "plain"))
    assert set(served) == {"serving_default"}
    result = served["serving_default"](image=tf.constant(images()))
    close(result["scores"], model(images()))
    close(model(images()), make_single()(images()), atol=0)  # left as it was


@pytest.mark.filterwarnings("ignore:.*all keys in the dict must match")
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_several_inputs_and_outputs_keep_their_names(tmp_path, kind):
    second, first = keras.Input((3,), name="second"), keras.Input((2,), name="first")
    x = layers.Dense(4, activation="tanh", name="up")(
        layers.Concatenate()([second, first])
    )
    p = layers.Dense(2, activation="softmax", name="z-last")(x)
    q = layers.Dense(1, name="q")(x)
    x, y = np.ones((2, 3), np.float32), np.full((2, 2), 3.0, np.float32)
    if kind == "dict":
        inputs, outputs = {"b": second, "a": first}, {"zeta": p, "eta": q}
        live_inputs, names = {"b": x, "a": y}, {"b": x, "a": y}
        out_names = {"zeta": "zeta", "eta": "eta"}
    else:
        inputs, outputs = [second, first], [p, q]
        live_inputs, names = [x, y], {"second": x, "first": y}
        out_names = {0: "z-last", 1: "q"}
    model = keras.Model(inputs, outputs)
    multi = eh.multi_head(model, fork_at="up", num_heads=2)
    for exported, freeze in (
        (model, False),
        (model, True),
        (multi, True),
        (multi, False),
    ):
        path = tmp_path / f"{exported.name}_{freeze}"
        served = signatures(eh.export(exported, path, freeze=freeze))
        tensors = {name: tf.constant(value) for name, value in names.items()}
        results = served["serving_default"](**tensors)
        assert set(results) == set(out_names.values())
        live = exported(live_inputs)
        for key, name in out_names.items():
            close(results[name], live[key])
    heads = served["heads"](**tensors)
    live = multi.head_predictions(live_inputs)
    for key, name in out_names.items():
        close(heads[name], live[key])


def test_an_output_that_is_given_twice(tmp_path):
    inputs = keras.Input((3,), name="x")
    outputs = layers.Dense(2, name="y")(inputs)
    model = keras.Model(inputs, [outputs, outputs])
    served = signatures(eh.export(model, tmp_path / "twice"))
    results = served["serving_default"](x=tf.ones((1, 3)))
    assert set(results) == {"y", "y_1"}


def test_fixed_batch_is_served_at_any_size(tmp_path):
    inputs = keras.Input((3,), batch_size=8, name="x")
    model = keras.Model(inputs, layers.Dense(2, name="y")(inputs))
    served = signatures(eh.export(model, tmp_path / "fixed"))
    assert served["serving_default"](x=tf.ones((5, 3)))["y"].shape == (5, 2)


@pytest.mark.parametrize(
    "policy, freeze",
    [("mixed_bfloat16", False), ("mixed_bfloat16", True), ("mixed_float16", False)],
)
def test_mixed_precision(tmp_path, policy, freeze):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = make_ensemble()
        path = tmp_path / policy
        path = eh.export(model, path, fold_batch_norm=False, freeze=freeze)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    served = signatures(path)
    result = served["serving_default"](image=tf.constant(images()))["scores"]
    assert result.dtype == tf.float32
    # TensorFlow rounds a bfloat16 graph elsewhere than the same operations one by one
    live = tf.function(model)(images())
    close(result, live)


@pytest.mark.parametrize("freeze", [True, False])
def test_lookup_tables_are_saved(tmp_path, freeze):
    words = keras.Input((2,), dtype="string", name="words")
    indices = layers.StringLookup(vocabulary=["a", "b", "c"])(words)
    x = layers.Flatten()(layers.Embedding(5, 4)(indices))
    model = keras.Model(words, layers.Dense(2, name="y")(x))
    served = signatures(eh.export(model, tmp_path / "words", freeze=freeze))
    given = tf.constant([["a", "z"], ["c", "b"]])
    close(served["serving_default"](words=given)["y"], model(given))


def test_existing_folder_is_an_error_and_stays(tmp_path):
    existing = tmp_path / "model"
    existing.mkdir()
    (existing / "precious").write_text("kept")
    with pytest.raises(ValueError, match="`directory` must not exist yet.*Received: d"):
        eh.export(make_single(), existing)
    assert [entry.name for entry in existing.iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", [str, pathlib.Path])
def test_a_url_is_no_folder(model, kind):
    with pytest.raises(ValueError, match="`directory` must be a local or mounted path"):
        eh.export(model, kind("gs://bucket/served"))


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        tf.io.write_file(os.path.join(args[1], "half"), "a model")
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        eh.export(make_single(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_only_the_finished_model_is_there_and_others_may_read_it(tmp_path):
    path = eh.export(make_single(), tmp_path / "model")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    plain = tmp_path / "plain"
    plain.mkdir()
    assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize(
    "heads, message",
    [
        ([], "at least one head"),
        ([0, 0], "each only once"),
        ([3], "from 0 to 2"),
        ("first", "an index or a list of indices. Received: heads='first'"),
        (1.5, "an index or a list of indices"),
    ],
)
def test_heads_that_there_are_not(tmp_path, model, heads, message):
    with pytest.raises(ValueError, match=message):
        eh.export(model, tmp_path / "model", heads=heads)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_exported(tmp_path):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="must be left out for a model without heads"):
        eh.export(make_single(), tmp_path / "model", heads=0)
    for model in (Subclassed(), None):
        with pytest.raises(ValueError, match="`model` must be an `eh.MultiHeadModel`"):
            eh.export(model, tmp_path / "model")


def test_what_the_message_for_subclassed_models_says_works(tmp_path):
    class Doubling(keras.Model):
        def call(self, inputs):
            return inputs * 2.0

    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, Doubling(name="twice")(inputs))
    served = signatures(eh.export(model, tmp_path / "model"))
    close(served["serving_default"](x=tf.ones((2, 3)))["twice"], 2 * np.ones((2, 3)))
