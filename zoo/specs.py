"""What the rows of the zoo have in common: frozen fields, checked changes, `build`."""

import dataclasses
import difflib
from typing import Any

import ensemble_heads as eh


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """One published model. Families subclass it, add fields and define `build`."""

    def build(self, name):
        """Returns a new `keras.Model` called `name`, with weights drawn anew."""
        raise NotImplementedError

    def with_changes(self, **changes):
        """Returns the spec with some fields replaced.

        Raises:
            ValueError: a name is not a field of this spec, or a value is not allowed.
        """
        check_fields(changes, self.changeable_fields(), type(self).__name__)
        return dataclasses.replace(self, **changes)

    @classmethod
    def own_fields(cls):
        """Names of the fields of this class, in order."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def changeable_fields(self):
        """Names that `with_changes` takes."""
        return self.own_fields()

    def normalise_tuples(self, *keys):
        """Makes lists into tuples, for `__post_init__`; refuses anything else."""
        for key in keys:
            value = getattr(self, key)
            if not isinstance(value, tuple | list):
                self.refuse(key, "be a tuple")
            object.__setattr__(self, key, tuple(value))

    def check_sizes(self, *keys, optional=False):
        """Refuses what is no positive integer; with `optional`, None is welcome."""
        for key in keys:
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (optional and value is None) and not (whole and value > 0):
                self.refuse(key, "be a positive integer" + " or None" * optional)

    def check_choice(self, key, known):
        """Refuses a value that is not in `known`."""
        if getattr(self, key) not in tuple(known):
            self.refuse(key, f"be one of {', '.join(map(repr, known))}")

    def refuse(self, key, rule):
        """Raises the ValueError for a field's value."""
        received = f"Received: {key}={getattr(self, key)!r}"
        raise ValueError(f"`{key}` must {rule}. {received}")


@dataclasses.dataclass(frozen=True)
class MultiHeadSpec(ModelSpec):
    """A multi-headed model made from another row by `eh.multi_head`.

    A change may name a field of this spec or one of its base row's, such as `classes`.

    Attributes:
        base: spec of the single network.
        fork_at: the last layer of the trunk, by name; a list for a tree.
        num_heads: number of heads N; of a tree, of branches at every fork.
        width_multiplier: width of a head relative to the layers it is made from.
        overrides: {layer name: {config key: value}} for single layers, or None.
        ensembler: what `eh.multi_head` takes.
        divisor: what `eh.multi_head` takes.
        seed: None, or an integer from which the weights of the heads are drawn.
        copy_weights: what `eh.multi_head` takes.
        execution: what `eh.multi_head` takes.
    """

    base: ModelSpec
    fork_at: Any
    num_heads: int = 2
    width_multiplier: Any = 1.0
    overrides: Any = None
    ensembler: Any = "mean"
    divisor: Any = None
    seed: Any = None
    copy_weights: bool = False
    execution: str = "separate"

    def build(self, name):
        """Returns a new `eh.MultiHeadModel`; the single network is named alike."""
        options = {key: getattr(self, key) for key in self.own_fields()[1:]}
        return eh.multi_head(self.base.build(name), name=name, **options)

    def with_changes(self, **changes):
        check_fields(changes, self.changeable_fields(), type(self).__name__)
        own = {key: changes.pop(key) for key in self.own_fields() if key in changes}
        if changes:
            base = own.get("base", self.base)
            own["base"] = base.with_changes(**changes)
        return dataclasses.replace(self, **own)

    def changeable_fields(self):
        return self.own_fields() + self.base.changeable_fields()


def check_fields(changes, known, owner):
    """Raises ValueError for the first of `changes` that is not in `known`."""
    for key in changes:
        if key not in known:
            raise ValueError(
                f"`{key}` must be a field of {owner}.{closest(key, known)} "
                f"Its fields are: {', '.join(known)}. Received: {key}={changes[key]!r}"
            )


def closest(name, known):
    """' Closest: …' for an error message, or '' when nothing is close."""
    matches = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f" Closest: {', '.join(matches)}." if matches else ""


def merge(*tables):
    """Joins families' SPECS tables into one.

    Raises:
        ValueError: two tables hold the same name.
    """
    merged = {}
    for table in tables:
        twice = sorted(merged.keys() & table.keys())
        if twice:
            raise ValueError(
                "`SPECS` of the families must not share a name. "
                f"Received twice: {', '.join(twice)}"
            )
        merged.update(table)
    return merged
