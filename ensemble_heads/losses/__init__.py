"""Losses of an ensemble, over any base loss l(g, p).

With N heads, predictions p_i and p_ens, and the ground truth g, the objects here say
how l(g, p_i) and l(g, p_ens) become the loss of an example. They are given to
`compile(ensemble_loss=…)`; the base loss is given as `loss`.

* every head for itself and the ensemble: `Ensembling`
* heads that learn from the ensemble or from each other: `CoDistillation`,
  `OnTheFly`, `MutualLearning`, or from a trained model: `Distillation`
* the ensemble alone, or with its heads as a regulariser: `EnsembleMean`, `Modular`
* heads that specialise, or see different examples: `MultipleChoice`, `Bagging`

Losses are *sums* over heads, so that a head learns as fast with many beside it as
alone, and a loss of the ensemble alone counts N times. Only `Modular` is a mean, as
its paper writes it: N times `Modular(c)` is `Ensembling(c)` of the mean logits.

A new loss is one more file here: see `EnsembleLoss`, and `LossOfHeads` for those that
do not look at the ensemble.
"""

from ensemble_heads.base_losses import SparseCategoricalCrossentropy
from ensemble_heads.losses.bagging import Bagging
from ensemble_heads.losses.codistillation import CoDistillation
from ensemble_heads.losses.distillation import Distillation
from ensemble_heads.losses.ensemble_loss import EnsembleLoss, HeadedOutput
from ensemble_heads.losses.ensemble_mean import EnsembleMean
from ensemble_heads.losses.ensembling import Ensembling
from ensemble_heads.losses.loss_of_heads import LossOfHeads
from ensemble_heads.losses.modular import Modular
from ensemble_heads.losses.multiple_choice import MultipleChoice
from ensemble_heads.losses.mutual_learning import MutualLearning
from ensemble_heads.losses.on_the_fly import OnTheFly

__all__ = [
    "Bagging",
    "CoDistillation",
    "Distillation",
    "EnsembleLoss",
    "EnsembleMean",
    "Ensembling",
    "HeadedOutput",
    "LossOfHeads",
    "Modular",
    "MultipleChoice",
    "MutualLearning",
    "OnTheFly",
    "SparseCategoricalCrossentropy",
]


def get(identifier):
    """An ensemble loss from an object, or the default for None.

    Raises:
        ValueError: anything else.
    """
    if identifier is None:
        return Ensembling(0.0)
    if isinstance(identifier, EnsembleLoss):
        return identifier
    raise ValueError(
        "`ensemble_loss` must be an object of `eh.losses`, such as "
        "`eh.losses.CoDistillation(3.0)`; the base loss l(g, p) is given as `loss`. "
        f"Received: ensemble_loss={identifier!r}"
    )
