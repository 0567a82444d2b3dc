"""The code in docs/losses.md, run as a reader would run it."""

import re
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from datasets import digits
from ensemble_heads.keras_api import keras
from tests import loss_checks

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "losses.md"


def blocks_under(title):
    """The code below a heading, in one piece."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text, flags=re.MULTILINE)
    (section,) = (part for part in section if part.startswith(title))
    return "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.M | re.S))


def network():
    return zoo.build(
        "cifar_resnet20",
        input_shape=digits.IMAGE_SHAPE,
        classes=digits.CLASSES,
        blocks=(1, 1, 1),
        widths=(4, 6, 8),
        stem_width=4,
    )


@pytest.fixture
def names():
    """What the document takes for granted."""
    train = digits.load("train", train_examples=60, batch_size=20, synthetic=True)
    return {
        **{"eh": eh, "tf": tf, "np": np, "keras": keras},
        **{"single": network(), "train": train, "held_out": train},
        **{"optimizer": "adam"},
    }


def test_on_the_fly(names):
    exec(blocks_under("Losses and ensemblers"), names)
    assert names["one_e"].num_heads == 3
    assert isinstance(names["one_e"].ensembler, eh.ensemblers.Gated)
    assert names["one"].count_params() < names["one_e"].count_params()


def test_fine_tuning(names):
    exec(blocks_under("Fine-tuning"), names)
    assert int(names["model"].optimizer.iterations) == 0  # three batches of five
    names["model"].fit(names["train"], verbose=0)
    assert int(names["model"].optimizer.iterations) == 1


def test_regression_by_negative_correlation_learning(names):
    exec(blocks_under("Regression"), names)
    gain = names["error_of_heads"] - names["ambiguity"]
    npt.assert_allclose(names["error"], gain, rtol=1e-4)
    assert names["ambiguity"] > 0
    assert names["error"] < 0.95 * np.var(names["y"])


def test_ensembles_of_what_was_trained_apart(names):
    names |= {name: network() for name in ("first", "second", "third")}
    exec(blocks_under("Ensembles of"), names)
    assert names["model"].num_heads == 3 >= names["best"].num_heads >= 1


def test_auxiliary_classifiers(names):
    exec(blocks_under("Auxiliary"), names)
    served, single = names["served"], names["single"]
    assert served.heads[0].output.shape == single.output.shape
    below = {layer.name for layer in names["model"].trunk.layers}
    assert "low" in below
    assert "low" not in {layer.name for layer in served.trunk.layers}


def test_a_loss_of_ones_own(names, tmp_path):
    exec(blocks_under("Adding a loss"), names)
    loss = names["WorstHead"]()
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("one_hot")
    base = "categorical_crossentropy"
    values, gradient = loss_checks.value_and_gradient(loss, base, target, z, "softmax")
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    own = -np.log((p * target[:, None]).sum(-1))
    npt.assert_allclose(values, own.max(1), rtol=1e-6)
    trained = np.abs(gradient).max(-1) > 0
    npt.assert_array_equal(trained, own == own.max(1, keepdims=True))
    names["model"].save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert repr(again._plan.ensemble_loss) == "WorstHead()"
    alone = eh.multi_head(names["single"], "stage2", num_heads=1)
    with pytest.raises(ValueError, match="`num_heads` must be at least 2"):
        alone.compile("sgd", "sparse_categorical_crossentropy", ensemble_loss=loss)
