"""The runs of an experiment: models x values of swept settings x seeds."""

import dataclasses
import itertools
import re

from absl import flags

from recipes.common import SettingError, parser_of

WHICH_RUNS = ("models", "seeds")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        model: str, what the experiment calls the network.
        settings: `Settings`, with the swept values in place.
        seed: int.
        changes: dict of the swept values, or {} outside a sweep.
    """

    model: str
    settings: object
    seed: int
    changes: dict = dataclasses.field(default_factory=dict)

    @property
    def method(self):
        """What runs that differ by their seed alone have in common, for people."""
        values = [f"{name}={_text(value)}" for name, value in self.changes.items()]
        return " ".join([self.model, *values])

    @property
    def key(self):
        """Name of the run's folder."""
        return f"{file_name(self.method)}-seed{self.seed}"


def file_name(method):
    """A run's method as part of the name of a file or folder."""
    return re.sub(r"[^\w.+-]+", "_", method)


def parse(kind, texts):
    """{setting: list of values} of flags such as "distillation_weight=0,1,2,3".

    Args:
        kind: subclass of `Settings`.
        texts: list of str.

    Raises:
        SettingError: no such setting, no value, or one it does not take.
    """
    # Which runs there are, others of its flags say.
    fields = (field.name for field in dataclasses.fields(kind))
    names = [name for name in fields if name not in WHICH_RUNS]
    swept = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or name not in names or name in swept or not values:
            rule = (
                "be a setting and its values, such as distillation_weight=0,1,2,3, "
                f"each setting once; the settings are {', '.join(names)}"
            )
            raise SettingError("sweep", rule, text)
        parser = parser_of(kind, name)
        try:
            parsed = [parser.parse(value) for value in values.split(",")]
        except (ValueError, flags.Error) as error:
            raise SettingError(
                "sweep", f"hold values that fit: {error}", text
            ) from error
        if len(set(parsed)) < len(parsed):
            raise SettingError("sweep", "hold each value once", text)
        swept[name] = parsed
    return swept


def runs_of(settings, swept, is_affected):
    """List of `Run`, seeds outermost, so that a machine's moods meet all alike.

    Args:
        settings: `Settings` with `models` and `seeds`.
        swept: {setting: list of values}.
        is_affected: callable `(model, name of a setting) -> bool`, whether the model
            depends on the setting: a single network has no weight of a loss between
            heads, and is run once.
    """
    runs = []
    for seed, model in itertools.product(range(settings.seeds), settings.models):
        own = {k: v for k, v in swept.items() if is_affected(model, k)}
        for values in itertools.product(*own.values()):
            changes = dict(zip(own, values, strict=True))
            runs.append(Run(model, settings.with_changes(**changes), seed, changes))
    return runs


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
