"""Score-averaged and probability-averaged training."""

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from tests import loss_checks, numpy_losses, small_models
from tests.loss_checks import HEADS


@pytest.mark.parametrize("of", ["logits", "probabilities"])
@pytest.mark.parametrize("link", loss_checks.CROSS_ENTROPIES)
def test_value_and_gradient_equal_numpy(link, of):
    base, kind, plain = loss_checks.CROSS_ENTROPIES[link]
    z, target = loss_checks.draw_logits(), loss_checks.draw_target(kind)
    loss = eh.losses.EnsembleMean(of)
    got = loss_checks.value_and_gradient(loss, base, target, z, link, of)

    def function(z):
        return HEADS * plain(target, numpy_losses.combine(z, link, of))

    loss_checks.assert_equals_numpy(got, function, z)
    ensembling = eh.losses.Ensembling(1.0)
    same = loss_checks.value_and_gradient(ensembling, base, target, z, link, of)
    for one, other in zip(got, same):
        npt.assert_allclose(one, other, rtol=1e-12)


def test_gradients_of_the_two_averages_are_the_papers():
    """Section 6.1 and appendix B, at N times the learning rate."""
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("one_hot")
    gradients = [
        loss_checks.value_and_gradient(
            eh.losses.EnsembleMean(of),
            "categorical_crossentropy",
            target,
            z,
            "softmax",
            of,
        )[1]
        for of in ("logits", "probabilities")
    ]
    p = numpy_losses.softmax(z)
    same = numpy_losses.softmax(z.mean(1)) - target
    npt.assert_allclose(gradients[0], np.stack([same] * HEADS, 1), rtol=1e-9)
    right = (p * target[:, None]).sum(-1, keepdims=True)  # p_i(y)
    share = right / right.sum(1, keepdims=True)
    npt.assert_allclose(
        gradients[1], HEADS * share * (p - target[:, None]), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_trains_what_the_model_predicts(of):
    model = small_models.dense_model(3, ensembler=eh.ensemblers.Mean(of))
    x, y = small_models.classification_data()
    loss = eh.losses.EnsembleMean(of)
    model.compile("adam", "sparse_categorical_crossentropy", ensemble_loss=loss)
    p = np.array(model(x))[np.arange(len(y)), y]
    npt.assert_allclose(
        model.evaluate(x, y, verbose=0), -3 * np.log(p).mean(), rtol=1e-5
    )


def test_arguments():
    with pytest.raises(ValueError, match='"probabilities" or "logits".*of=.scores'):
        eh.losses.EnsembleMean("scores")
    model = small_models.dense_model(2, ensembler=eh.ensemblers.Mean("logits"))
    loss = eh.losses.EnsembleMean("probabilities")
    with pytest.raises(ValueError, match=r"Received: ensembler=Mean\('logits'\)"):
        model.compile("sgd", "sparse_categorical_crossentropy", ensemble_loss=loss)
    # Raw outputs have one mean only.
    plain = small_models.dense_model(2, "linear", ensembler=eh.ensemblers.Mean())
    plain.compile("sgd", "mse", ensemble_loss=eh.losses.EnsembleMean("logits"))
