"""The wrapper and the model: what they predict, share, save and refuse."""

import h5py
import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from tests import numpy_losses, small_models
from tests.small_models import Weighting, dense_head, dense_model


def numpy_of(structure):
    return tf.nest.map_structure(np.array, structure)


def by_hand(model, x):
    """Raw outputs of every head `[batch, heads, …]`, one head after the other."""
    features = model.trunk(x)
    return np.stack([np.array(head(features)) for head in model.heads], axis=1)


# ---- Predictions


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "linear"])
def test_vectorised_predictions_equal_a_loop_over_heads(link):
    model = dense_model(3, link)
    x, _ = small_models.classification_data()
    expected = numpy_losses.LINKS[link](by_hand(model, x))
    npt.assert_allclose(model.head_predictions(x), expected, rtol=1e-5, atol=1e-6)
    npt.assert_allclose(model(x), expected.mean(1), rtol=1e-5, atol=1e-6)
    predicted = model.predict(x, verbose=0)
    npt.assert_allclose(predicted, expected.mean(1), rtol=1e-5, atol=1e-6)
    for i in range(3):
        single = model.head(i).predict(x, verbose=0)
        npt.assert_allclose(single, expected[:, i], rtol=1e-5, atol=1e-6)


def test_wrapper_in_anyones_functional_model():
    heads = [dense_head(4, name=f"head_{i}") for i in range(2)]
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "softmax")
    inputs = keras.Input((7,))
    stacked = wrapper(inputs)
    assert tuple(stacked.shape) == (None, 2, 4)
    model = keras.Model(inputs, eh.ensemblers.Mean()(stacked))
    x = np.random.normal(size=(5, 7)).astype("float32")
    raw = np.stack([np.array(head(x)) for head in heads], 1)
    npt.assert_allclose(wrapper.logits(x), raw, rtol=1e-6)
    p = numpy_losses.softmax(raw).mean(1)
    npt.assert_allclose(model.predict(x, verbose=0), p, rtol=1e-5)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, np.arange(5) % 4, verbose=0)


def test_wrapper_clones_an_upper_network(tmp_path):
    features = keras.Input((7,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(features)
    outputs = keras.layers.Dense(4, activation="softmax", name="out")(hidden)
    upper = keras.Model(features, outputs)
    inputs = keras.Input((7,))
    wrapper = eh.MultiHeadWrapper(upper, num_heads=3, width_multiplier=0.5, seed=1)
    model = keras.Model(inputs, wrapper(inputs))
    assert [head.get_layer("hidden").units for head in wrapper.heads] == [4] * 3
    x = np.random.normal(size=(5, 7)).astype("float32")
    expected = numpy_losses.softmax(
        np.stack([np.array(head(x)) for head in wrapper.heads], 1)
    )
    npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    assert np.abs(expected[:, 0] - expected[:, 1]).max() > 1e-3
    model.save(tmp_path / "wrapped.keras")
    again = keras.models.load_model(tmp_path / "wrapped.keras")
    npt.assert_allclose(again.predict(x, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [dict, list])
def test_several_inputs_and_outputs(kind):
    model = small_models.several_outputs_model(kind, num_heads=3)
    arrays = [np.random.normal(size=(6, n)).astype("float32") for n in (3, 2)]
    x = dict(zip(("left", "right"), arrays)) if kind is dict else arrays
    ensemble, heads = numpy_of(model(x)), numpy_of(model.head_predictions(x))
    assert isinstance(ensemble, kind)
    keys = ("label", "size") if kind is dict else (0, 1)
    features = model.trunk(x)
    for key, link in zip(keys, ("softmax", "linear")):
        raw = np.stack([np.array(head(features)[key]) for head in model.heads], 1)
        expected = numpy_losses.LINKS[link](raw)
        npt.assert_allclose(heads[key], expected, rtol=1e-5)
        npt.assert_allclose(ensemble[key], expected.mean(1), rtol=1e-5, atol=1e-6)
        single = model.head(1).predict(x, verbose=0)
        npt.assert_allclose(single[key], expected[:, 1], rtol=1e-5, atol=1e-6)


def test_several_features_leave_the_trunk():
    layers = keras.layers
    inputs = keras.Input((6,))
    parts = [layers.Dense(4)(inputs), layers.Dense(5)(inputs)]
    trunk = keras.Model(inputs, parts)
    heads = []
    for i in range(2):
        features = [keras.Input((4,)), keras.Input((5,))]
        raw = layers.Dense(3, name="out")(layers.Concatenate()(features))
        heads.append(keras.Model(features, raw, name=f"head_{i}"))
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "softmax")
    model = eh.MultiHeadModel(trunk, wrapper)
    x, y = small_models.classification_data(classes=3)
    joined = np.concatenate([np.array(f) for f in trunk(x)], axis=-1)
    for i, head in enumerate(heads):
        kernel, bias = head.get_weights()
        expected = numpy_losses.softmax(joined @ kernel + bias)
        npt.assert_allclose(model.head(i)(x), expected, rtol=1e-4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)


def test_symbolic_calls_of_the_model():
    model = dense_model(2)
    inputs = keras.Input((small_models.FEATURES,))
    outer = keras.Model(inputs, keras.layers.Rescaling(2.0)(model(inputs)))
    x, _ = small_models.classification_data()
    npt.assert_allclose(outer(x), 2 * np.array(model(x)), rtol=1e-6)


def test_batch_and_spatial_sizes_may_be_unknown():
    layers = keras.layers
    inputs = keras.Input((None, None, 3))
    trunk = keras.Model(inputs, layers.Conv2D(4, 3, padding="same")(inputs))
    heads = []
    for i in range(2):
        features = keras.Input((None, None, 4))
        raw = layers.Conv2D(5, 1, name="map")(features)
        heads.append(keras.Model(features, raw, name=f"head_{i}"))
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "softmax")
    model = eh.MultiHeadModel(trunk, wrapper)
    call = tf.function(model.head_predictions)
    spec = tf.TensorSpec((None, None, None, 3))
    graph = call.get_concrete_function(spec)
    for size in ((2, 4, 6), (3, 5, 5)):
        x = np.random.normal(size=(*size, 3)).astype("float32")
        got = graph(tf.constant(x))
        assert got.shape == (size[0], 2, *size[1:], 5)
        npt.assert_allclose(got, model.head_predictions(x), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_predicts_in_float32(policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = dense_model(2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    x, _ = small_models.classification_data()
    narrow = model.trunk(x)
    assert narrow.dtype == policy.removeprefix("mixed_")
    ensemble, heads = model(x), model.head_predictions(x)
    assert ensemble.dtype == heads.dtype == tf.float32
    assert model.head(0)(x).dtype == tf.float32
    npt.assert_allclose(np.array(ensemble).sum(-1), 1.0, rtol=1e-6)


def test_every_head_gets_the_masks_that_attention_takes_off():
    layers = keras.layers
    inputs = keras.Input((None,), dtype="int32")
    words = layers.Embedding(9, 4, mask_zero=True, name="words")(inputs)
    mixed = layers.MultiHeadAttention(2, 3)(words, words)
    pooled = layers.GlobalAveragePooling1D()(layers.Add()([words, mixed]))
    single = keras.Model(inputs, layers.Dense(3, activation="softmax")(pooled))
    model = eh.multi_head(single, "words", num_heads=3, copy_weights=True)
    x = np.array([[1, 2, 0, 0], [3, 4, 5, 0]])
    expected = np.repeat(np.array(single(x))[:, None], 3, axis=1)
    npt.assert_allclose(model.head_predictions(x), expected, rtol=1e-5, atol=1e-6)
    predicted = model.predict(x, verbose=0)
    npt.assert_allclose(predicted, expected[:, 0], rtol=1e-5, atol=1e-6)


def test_masks_pass_to_the_heads():
    layers = keras.layers
    inputs = keras.Input((5,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True)(inputs)
    trunk = keras.Model(inputs, embedded)
    heads = []
    for i in range(2):
        features = keras.Input((5, 4))
        pooled = layers.GlobalAveragePooling1D()(features)
        heads.append(
            keras.Model(features, layers.Dense(3, name="out")(pooled), name=f"h{i}")
        )
    wrapper = eh.MultiHeadWrapper.from_heads(heads, "linear")
    model = eh.MultiHeadModel(trunk, wrapper)
    tokens = np.array([[1, 2, 3, 0, 0]])
    table = trunk.get_weights()[0]
    mean = table[[1, 2, 3]].mean(0)
    for i, head in enumerate(heads):
        kernel, bias = head.get_weights()
        said = np.array(model.head_predictions(tokens))[0, i]
        npt.assert_allclose(said, mean @ kernel + bias, rtol=1e-5, atol=1e-6)


# ---- Logits whose meaning the loss tells


@pytest.mark.parametrize(
    "loss, link",
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), "softmax"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "sigmoid"),
    ],
)
def test_loss_on_logits_tells_what_is_averaged(loss, link, tmp_path):
    model = dense_model(3, "linear")
    x, _ = small_models.classification_data()
    raw = by_hand(model, x).astype("float64")
    npt.assert_allclose(model.predict(x, verbose=0), raw.mean(1), rtol=1e-5, atol=1e-6)
    model.compile("sgd", loss)
    assert model.links == link and model.wrapper.links == "linear"
    p = numpy_losses.LINKS[link](raw).mean(1)
    logits = np.log(p) - (np.log(1 - p) if link == "sigmoid" else 0)
    npt.assert_allclose(model.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5)
    npt.assert_allclose(model.head_predictions(x), raw, rtol=1e-5)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", compile=False)
    npt.assert_allclose(again.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5)
    part = model.select_heads([0, 2])
    p = numpy_losses.LINKS[link](raw[:, [0, 2]]).mean(1)
    logits = np.log(p) - (np.log(1 - p) if link == "sigmoid" else 0)
    npt.assert_allclose(part.predict(x, verbose=0), logits, rtol=1e-4, atol=1e-5)


def test_loss_on_logits_of_an_activated_model_is_an_error():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    message = "from_logits=True, but output `out`.*softmax.*Pass from_logits=False"
    with pytest.raises(ValueError, match=message):
        dense_model(2, "softmax").compile("sgd", loss)


# ---- Sharing


def test_selected_heads_share_their_variables():
    model = dense_model(3)
    x, _ = small_models.classification_data()
    part, single = model.select_heads([2, 0]), model.head(-1)
    heads = np.array(model.head_predictions(x))
    npt.assert_allclose(part.head_predictions(x), heads[:, [2, 0]], rtol=1e-6)
    npt.assert_allclose(part(x), heads[:, [2, 0]].mean(1), rtol=1e-5)
    changed = model.heads[2].trainable_variables[0]
    changed.assign(changed * 3.0)
    after = np.array(model.head_predictions(x))
    assert np.abs(after[:, 2] - heads[:, 2]).max() > 1e-3
    npt.assert_allclose(part.head_predictions(x), after[:, [2, 0]], rtol=1e-6)
    npt.assert_allclose(single(x), after[:, 2], rtol=1e-5)


def test_all_weights_are_counted_once():
    model = dense_model(3)
    parts = [model.trunk, *model.heads]
    assert len(model.weights) == sum(len(part.weights) for part in parts)
    assert model.count_params() == sum(part.count_params() for part in parts)
    own = dense_model(2, ensembler=Weighting())
    assert len(own.trainable_weights) == 2 + 2 * 4 + 1


# ---- Saving


@pytest.mark.parametrize("kind", ["single", "dict", "list", "parametric"])
def test_keras_files_hold_everything(kind, tmp_path):
    arrays = [np.random.normal(size=(6, n)).astype("float32") for n in (3, 2)]
    if kind == "single":
        model, x = dense_model(3, name="mine"), small_models.classification_data()[0]
    elif kind == "parametric":
        layers = {"label": Weighting(), "size": eh.ensemblers.Mean("logits")}
        model = small_models.several_outputs_model(dict, ensembler=layers)
        x = dict(zip(("left", "right"), arrays))
    else:
        structure = {"dict": dict, "list": list}[kind]
        model = small_models.several_outputs_model(structure)
        x = arrays if kind == "list" else dict(zip(("left", "right"), arrays))
    path = tmp_path / "model.keras"
    model.save(path)
    custom = {"Weighting": Weighting}
    again = keras.models.load_model(path, custom_objects=custom)
    assert type(again) is eh.MultiHeadModel and again.name == model.name
    assert [h.name for h in again.heads] == [h.name for h in model.heads]
    tf.nest.map_structure(
        lambda a, b: npt.assert_allclose(a, b, rtol=1e-6),
        numpy_of(model.head_predictions(x)),
        numpy_of(again.head_predictions(x)),
    )
    tf.nest.map_structure(
        lambda a, b: npt.assert_allclose(a, b, rtol=1e-6),
        numpy_of(model(x)),
        numpy_of(again(x)),
    )


def test_weights_files_restore(tmp_path):
    model, other = dense_model(3), dense_model(3)
    x, _ = small_models.classification_data()
    assert np.abs(np.array(model(x)) - np.array(other(x))).max() > 1e-3
    path = str(tmp_path / "model.weights.h5")
    model.save_weights(path)
    other.load_weights(path)
    npt.assert_allclose(model.head_predictions(x), other.head_predictions(x), rtol=1e-6)


def test_weights_files_name_every_variable_by_one_route(tmp_path):
    """Both lines walk attributes, in opposite order, and must meet heads alike."""
    path = tmp_path / "model.weights.h5"
    dense_model(2, ensembler=Weighting()).save_weights(str(path))
    found = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert sorted(found) == [
        "ensembler/vars/0",
        "trunk/layers/dense/vars/0",
        "trunk/layers/dense/vars/1",
        *(
            f"wrapper/layout/parts/{head}/layers/{layer}/vars/{i}"
            for head in ("functional", "functional_1")
            for layer in ("dense", "dense_1")
            for i in (0, 1)
        ),
    ]


# ---- Errors


def test_no_heads():
    with pytest.raises(ValueError, match="`num_heads` must be .* at least 1.*heads=0"):
        eh.MultiHeadWrapper.from_heads([], "softmax")
    upper = dense_head(4)
    for count in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="`num_heads` must be an integer"):
            eh.MultiHeadWrapper(upper, num_heads=count)


def test_unknown_heads():
    model = dense_model(2)
    for index in (2, -3):
        with pytest.raises(ValueError, match=f"from 0 to 1. Received: index={index}"):
            model.head(index)
    for indices in ([], [0, 0], [1, -1]):
        with pytest.raises(ValueError, match="at least one head, and each only once"):
            model.select_heads(indices)
    own = dense_model(3, ensembler=Weighting())
    with pytest.raises(ValueError, match="must name all heads"):
        own.select_heads([0, 1])
    assert own.select_heads([0, 1, 2]).ensembler is own.ensembler


def test_one_head_alone_loses_the_weights_of_the_ensembler():
    model = dense_model(3, ensembler=Weighting())
    x, _ = small_models.classification_data(6)
    one = model.select_heads([1])
    assert not one.ensembler.weights
    expected = np.array(model.head_predictions(x))[:, 1]
    np.testing.assert_allclose(one.predict(x, verbose=0), expected, atol=1e-6)


def test_names_of_outputs_are_checked():
    model = small_models.several_outputs_model(dict)
    with pytest.raises(ValueError, match=r"names of the outputs.*'label', 'size'.*age"):
        model.compile("sgd", {"label": "mse", "age": "mse"})
    with pytest.raises(ValueError, match="one entry for each of the 2 outputs"):
        model.compile("sgd", ["mse", "mse", "mse"])
