"""Numbers that the analysis of a run has beside those of `eh.analyses`."""

import ensemble_heads as eh
from recipes import run_analyses


def test_heads_that_know_some_classes_do_better_by_probabilities():
    # The second head rules out class 0, which it never saw: in a mean of logits its -30
    # outweighs the first head's 9.
    logits = [[[9.0, 0.0, 0.0], [-30.0, 1.0, 0.0]], [[0.0, 3.0, 0.0], [0.0, 4.0, 0.0]]]
    said = eh.analyses.HeadPredictions.from_logits([0, 1], logits)
    assert run_analyses.accuracies_of_means(said) == {
        "mean_of_probabilities_accuracy": 1.0,
        "mean_of_logits_accuracy": 0.5,
    }
