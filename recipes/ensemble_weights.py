"""lambda or mu: the setting of every recipe that trains an EnsembleNet."""

import dataclasses

import ensemble_heads as eh
import zoo
from recipes.common import setting
from recipes.experiment import TrainingSettings

NAMES = ("distillation_weight", "ensemble_weight")


@dataclasses.dataclass(frozen=True)
class EnsembleSettings(TrainingSettings):
    """Settings of a run under the ensembling or the co-distillation loss."""

    distillation_weight: float | None = setting(
        3.0, "mu of the co-distillation loss; none for the ensembling loss."
    )
    ensemble_weight: float | None = setting(
        None, "lambda of the ensembling loss; none for the co-distillation loss."
    )

    def __post_init__(self):
        super().__post_init__()
        one = (self.distillation_weight is None) != (self.ensemble_weight is None)
        self.require("ensemble_weight", one, "be none where distillation_weight is not")

    def with_changes(self, **changes):
        # The weight that is asked for says which loss it is.
        asked = set(NAMES) & changes.keys()
        if len(asked) == 1 and changes[next(iter(asked))] is not None:
            changes |= dict.fromkeys(set(NAMES) - asked)
        return super().with_changes(**changes)

    def compile_options(self, model):
        """What `compile` takes of it: nothing for a model without heads."""
        if not isinstance(model, eh.MultiHeadModel):
            return {}
        if self.ensemble_weight is not None:
            return {"ensemble_loss": eh.losses.Ensembling(self.ensemble_weight)}
        return {"ensemble_loss": eh.losses.CoDistillation(self.distillation_weight)}


def is_affected(model, name):
    """Whether a row of the zoo depends on a setting: without heads, not on these."""
    return name not in NAMES or isinstance(zoo.SPECS[model], zoo.MultiHeadSpec)
