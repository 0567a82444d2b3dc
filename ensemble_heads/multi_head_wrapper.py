"""The layer behind every multi-headed model: the upper network, several times."""

import dataclasses

from ensemble_heads.head_cloning import clone_heads
from ensemble_heads.head_layouts import (
    HeadLayout,
    SeparateHeads,
    check_execution,
    check_num_heads,
    check_tree_execution,
    lay_out,
)
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import Prediction


@dataclasses.dataclass
class _Made:
    """Heads that exist already, in place of an upper network to clone."""

    layout: HeadLayout
    links: object


@register
class MultiHeadWrapper(keras.layers.Layer):
    """Several narrower copies of an upper network on the same features.

    Usable in any functional model: `MultiHeadWrapper(upper, num_heads=2)(features)`.

    Args:
        upper: functional `keras.Model` from features to predictions. It is a
            template: never changed, and no weights are shared with it.
        num_heads: int >= 1.
        width_multiplier: float in (0, 4] or callable `layer -> float`; the widths of
            the heads relative to `upper`.
        overrides: {layer name: {config key: value}}, changes of single layers.
        divisor: int, widths are rounded to its multiples. Default 1.
        seed: int; the same seed draws the same heads. Default: a new draw each time.
        copy_weights: bool, start from the weights of `upper` instead of a draw.
        execution: `"separate"`, `"stacked"` or `"auto"`, how the heads are run; see
            `eh.multi_head`.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What `upper` takes: one tensor, or a list or dict of tensors.

    Output shape:
        `[batch, heads, …]` in the form of the output of `upper` (probabilities stay
        probabilities), in float32 or wider; a list or dict of such tensors when
        `upper` has several outputs.

    Attributes:
        layout: `head_layouts.HeadLayout`, the layer that holds the heads' variables.

    Raises:
        ValueError: `num_heads` < 1, `upper` is no functional model, or one of the
            reasons for which widths cannot be changed (see `eh.multi_head`).
    """

    def __init__(
        self,
        upper,
        num_heads=2,
        width_multiplier=1.0,
        overrides=None,
        divisor=None,
        seed=None,
        copy_weights=False,
        execution="separate",
        **kwargs,
    ):
        # Every layer of a head casts for itself, as in the single model.
        super().__init__(**{**kwargs, "autocast": False})
        if not isinstance(upper, _Made):
            upper = _Made(
                *clone_heads(
                    upper,
                    num_heads,
                    width_multiplier,
                    overrides=overrides,
                    divisor=divisor,
                    seed=seed,
                    copy_weights=copy_weights,
                    execution=execution,
                )
            )
        self.layout = upper.layout
        self.outputs_like = self.layout.outputs_like
        self.flat_links = tuple(self.outputs_like.flatten(upper.links, "links"))
        self.supports_masking = True
        self.built = True

    @classmethod
    def from_heads(cls, heads, links, execution="separate", **kwargs):
        """A wrapper around heads that exist already, sharing their weights.

        Stacked heads have variables of their own, with the heads' present values.

        Args:
            heads: list of functional `keras.Model`, features -> raw outputs.
            links: structure of the outputs, of `"softmax"`, `"sigmoid"`,
                `"exponential"` or `"linear"`.
            execution: as for the class.
            **kwargs: arguments of `keras.layers.Layer`.

        Raises:
            ValueError: no heads, or heads that cannot be stacked under `"stacked"`.
        """
        check_num_heads(len(heads))
        layout = lay_out(execution, len(heads), heads.__getitem__)
        return cls.from_layout(layout, links, **kwargs)

    @classmethod
    def from_layout(cls, layout, links, **kwargs):
        """A wrapper around heads that a layout holds already; else as `from_heads`."""
        return cls(_Made(layout, links), **kwargs)

    @property
    def heads(self):
        """List of functional `keras.Model`, features -> raw outputs."""
        return self.layout.heads

    @property
    def num_heads(self):
        return self.layout.num_heads

    @property
    def execution(self):
        """How the heads are run: `"separate"`, `"stacked"` or `"tree"`."""
        return self.layout.execution

    @property
    def execution_choice(self):
        """How `"auto"` decided (`.reason`, `.seconds`); None where it did not."""
        return self.layout.choice

    def with_execution(self, execution):
        """The same heads run in another way; converts weights both ways.

        Args:
            execution: as for the class.

        Returns:
            A wrapper whose heads have variables of their own, with the present values;
            where they are run so already, they share theirs.

        Raises:
            ValueError: an unknown `execution`, or `"stacked"` for heads that cannot be.
        """
        check_execution(execution)
        if execution == self.execution:
            return self
        if self.execution == "tree":
            check_tree_execution(execution)
            return self
        heads = self.layout.heads
        layout = lay_out(execution, self.num_heads, heads.__getitem__)
        if layout.execution == self.execution:
            self.layout.choice = layout.choice
            return self
        return self.from_layout(layout, self.links, name=self.name)

    def with_devices(self, devices):
        """The same heads on devices of their own; see `MultiHeadModel.with_devices`."""
        if self.execution != "separate":
            raise ValueError(
                "`devices` must be left out unless heads run separately: what stacked "
                "heads and trees share is in one place. `with_execution` converts "
                f"stacked heads. Received: devices={devices!r} for heads that run "
                f"{self.execution}"
            )
        name = self.layout.name
        layout = SeparateHeads.placed(self.heads, devices, name=name)
        return self.from_layout(layout, self.links, name=self.name)

    @property
    def links(self):
        """What was taken off every output, such as "softmax", or "linear"."""
        return self.outputs_like.pack(list(self.flat_links))

    def call(self, features, training=None):
        stacks, _ = self.stacked_logits(features, training=training)
        return self.outputs_like.pack(
            [
                Prediction(stack, link).values
                for stack, link in zip(stacks, self.flat_links, strict=True)
            ]
        )

    def logits(self, features, training=None):
        """The raw outputs `[batch, heads, …]`, in the structure of the outputs."""
        return self.outputs_like.pack(self.stacked_logits(features, training)[0])

    def stacked_logits(self, features, training=None):
        """Raw outputs `[batch, heads, …]` and masks `[batch, …]` or None.

        Returns:
            Two flat lists with one entry per output.
        """
        return self.layout.stacked_logits(features, training=training)

    def compute_mask(self, inputs, mask=None):
        return None  # A mask over features need not fit the stacked outputs.

    def get_config(self):
        """Holds the heads themselves, so that loading traces no widths again."""
        return {
            **super().get_config(),
            "layout": keras.saving.serialize_keras_object(self.layout),
            "links": self.links,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        layout = keras.saving.deserialize_keras_object(config.pop("layout"))
        return cls.from_layout(layout, config.pop("links"), **config)

    def __dir__(self):
        # Keras' savers walk `dir()`, and must meet what has weights by one route.
        return [n for n in super().__dir__() if n != "heads"]
