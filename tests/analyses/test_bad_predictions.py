"""Predictions that are none are refused before anything is made of them."""

import numpy as np
import pytest

from ensemble_heads import analyses


@pytest.mark.parametrize(
    "labels, link, rule",
    [
        ([-1, 0], "softmax", "class numbers from 0 to 2, integers"),
        ([0, 3], "softmax", "class numbers from 0 to 2, integers"),
        ([0.7, 1.0], "softmax", "whole"),
        (["a", "b"], "softmax", "whole"),
        ([[0.3, 0, 1], [0, 0, 1]], "sigmoid", "0 or 1"),
    ],
)
def test_labels_that_are_none(labels, link, rule):
    with pytest.raises(ValueError, match=f"`labels` must be {rule}. Received: "):
        analyses.HeadPredictions.from_logits(labels, np.zeros([2, 2, 3]), link)
