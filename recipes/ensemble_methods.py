"""Every loss of `eh.losses` as a method by name, with the ensembler that goes with it.

A recipe's settings subclass `MethodSettings`; `methods(settings, teacher)` gives what
`comparison.compare` trains.
"""

import dataclasses

import ensemble_heads as eh
from recipes import common
from recipes.common import setting
from recipes.comparison import Method


def mean_of_logits():
    return eh.ensemblers.Mean("logits")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A loss with its ensembler.

    Attributes:
        label: str, for people.
        make: callable settings, teacher -> object of `eh.losses`.
        ensembler: callable that makes the ensembler.
    """

    label: str
    make: object
    ensembler: object = eh.ensemblers.Mean


KINDS = {
    "mean_logits": Kind(
        "mean logits",
        lambda s, teacher: eh.losses.EnsembleMean("logits"),
        mean_of_logits,
    ),
    "mean_probabilities": Kind(
        "mean probabilities",
        lambda s, teacher: eh.losses.EnsembleMean("probabilities"),
    ),
    "modular": Kind(
        "modular",
        lambda s, teacher: eh.losses.Modular(s.coupling),
        mean_of_logits,
    ),
    "multiple_choice": Kind(
        "multiple choice",
        lambda s, teacher: eh.losses.MultipleChoice(s.num_choices),
    ),
    "mixed_choice": Kind(
        "mixed choice",
        lambda s, teacher: eh.losses.MultipleChoice(
            s.num_choices, s.independent_weight
        ),
    ),
    "bagging": Kind(
        "bagging",
        lambda s, teacher: eh.losses.Bagging(id_key="number"),
    ),
    "on_the_fly": Kind(
        "ONE",
        lambda s, teacher: eh.losses.OnTheFly(s.temperature),
        eh.ensemblers.Gated,
    ),
    "mutual_learning": Kind(
        "mutual learning",
        lambda s, teacher: eh.losses.MutualLearning(s.peer_weight),
    ),
    "distillation": Kind(
        "distillation",
        lambda s, teacher: eh.losses.Distillation(
            teacher(), s.temperature, s.teacher_weight
        ),
    ),
    "mixture_of_experts": Kind(
        "mixture of experts",
        lambda s, teacher: eh.losses.Ensembling(0.0),
        eh.ensemblers.MixtureOfExperts,
    ),
}
NAMES = ("ensembling", "codistillation", *KINDS)


@dataclasses.dataclass(frozen=True)
class MethodSettings(common.Settings):
    """Which losses, and their parameters."""

    ensemble_loss: tuple[str, ...] = setting(
        ("ensembling", "codistillation"),
        f"Losses of the ensemble, each a method: {', '.join(NAMES)}.",
    )
    ensemble_weights: tuple[float, ...] = setting(
        (0.0, -1.5), "Values of lambda, each a method, of ensembling."
    )
    distillation_weights: tuple[float, ...] = setting(
        (3.0,), "Values of mu, each a method, of codistillation."
    )
    coupling: float = setting(0.9, "Lambda of modular, at most 1.")
    num_choices: int = setting(1, "k of multiple_choice and mixed_choice.")
    independent_weight: float = setting(0.5, "Of all heads' losses in mixed_choice.")
    temperature: float = setting(3.0, "T of on_the_fly and distillation.")
    peer_weight: float = setting(1.0, "Of the other heads in mutual_learning.")
    teacher_weight: float = setting(1.0, "Of the single network in distillation.")
    num_heads: int = setting(2, "Heads N.")

    # What says which methods there are, and not what a method's run gives.
    CHOICES = ("ensemble_loss", "ensemble_weights", "distillation_weights")

    def __post_init__(self):
        super().__post_init__()
        self.require_at_least(1, "num_heads", "num_choices")
        self.require_among(NAMES, "ensemble_loss")
        for name in self.CHOICES:
            values = getattr(self, name)
            self.require(name, len(set(values)) == len(values), "hold each value once")
        positive = all(mu >= 0 for mu in self.distillation_weights)
        self.require("distillation_weights", positive, "be 0 or more each")
        self.require("coupling", self.coupling <= 1, "be at most 1")
        self.require("temperature", self.temperature > 0, "be above 0")
        for name in ("independent_weight", "peer_weight", "teacher_weight"):
            self.require(name, getattr(self, name) >= 0, "be 0 or more")
        choosing = {"multiple_choice", "mixed_choice"}.intersection(self.ensemble_loss)
        fits = not choosing or self.num_choices <= self.num_heads
        self.require("num_choices", fits, f"be at most num_heads={self.num_heads}")


def methods(settings, teacher):
    """List of `Method`.

    Args:
        settings: `MethodSettings`.
        teacher: callable that gives the Keras model which distillation learns from.
    """
    found = []
    for name in settings.ensemble_loss:
        if name == "ensembling":
            found += _weighted(
                "lambda", settings.ensemble_weights, eh.losses.Ensembling
            )
        elif name == "codistillation":
            mus = settings.distillation_weights
            found += _weighted("mu", mus, eh.losses.CoDistillation)
        else:
            kind = KINDS[name]
            loss = kind.make(settings, teacher)
            found.append(Method(name, kind.label, loss, ensembler=kind.ensembler))
    return found


def _weighted(symbol, weights, loss):
    return [
        Method(f"{symbol}_{w:g}", f"{symbol} = {w:g}", loss(w), symbol, w)
        for w in weights
    ]
