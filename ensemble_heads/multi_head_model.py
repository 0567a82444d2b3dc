"""The multi-headed model: a trunk, several heads on it, and an ensembler."""

import numbers
import os
import warnings

import tensorflow as tf

from ensemble_heads import (
    ensemblers,
    model_inputs,
    output_selection,
    placement,
    recomputation,
)
from ensemble_heads.keras_api import KERAS_3, LEGACY_OPTIMIZERS, keras, register
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper
from ensemble_heads.predictions import Prediction
from ensemble_heads.training import EnsembleTrainer


@register
class MultiHeadModel(EnsembleTrainer, keras.Model):
    """A `keras.Model` whose prediction is that of an ensemble of its heads.

    `eh.multi_head` makes one from a single model. Its `compile` takes, besides the
    arguments of `keras.Model.compile`, an `ensemble_loss` and `head_metrics`.

    Args:
        trunk: functional `keras.Model`, from the inputs to the features.
        wrapper: `MultiHeadWrapper`, the heads on those features.
        ensembler: `"mean"` or a Keras layer, see `eh.ensemblers`; with several
            outputs also a list or dict of one per output.
        links: structure of the outputs: what the averaged raw outputs mean. Set by
            `compile` where a loss on logits tells more than the heads do.
            Default: the links of `wrapper`.
        width_multiplier: float, what the widths of the heads were multiplied by, for
            the record; None where that is no single number.
        name: str.
        **kwargs: arguments of `keras.Model`.

    Input shape:
        What `trunk` takes: one tensor, or a list or dict of tensors.

    Output shape:
        The outputs of the single model, in the same form (probabilities stay
        probabilities, logits stay logits), in float32 or wider.

    Attributes:
        trunk: functional `keras.Model`.
        heads: list of functional `keras.Model`, features -> raw outputs.
        ensembler: the ensembler layer, or the structure of the outputs' ensemblers.
        num_heads: int.
        width_multiplier: float or None, as given.

    Raises:
        ValueError: an unknown ensembler, or one whose result has another shape than
            the single model's output.
    """

    def __init__(
        self,
        trunk,
        wrapper,
        ensembler="mean",
        links=None,
        width_multiplier=None,
        name=None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", _policy_name([trunk, *wrapper.layout.parts]))
        super().__init__(name=name, **{**kwargs, "autocast": False})
        self.trunk = trunk
        self.wrapper = wrapper
        self.width_multiplier = width_multiplier
        self.outputs_like = wrapper.outputs_like
        links = wrapper.links if links is None else links
        self.flat_links = tuple(self.outputs_like.flatten(links, "links"))
        self.ensembler = self._make_ensemblers(ensembler)
        self.supports_masking = True
        self.built = True

    @property
    def heads(self):
        return list(self.wrapper.heads)

    @property
    def num_heads(self):
        return self.wrapper.num_heads

    @property
    def links(self):
        """What the averaged raw outputs mean, in the structure of the outputs."""
        return self.outputs_like.pack(list(self.flat_links))

    def flat_ensemblers(self):
        """List of the ensembler layers, one per output."""
        return self.outputs_like.flatten(self.ensembler, "ensembler", shared=True)

    def call(self, inputs, training=None):
        predictions = self.forward(inputs, training=training)
        return self.outputs_like.pack([p.ensemble.values for p in predictions])

    def head_predictions(self, inputs, training=False):
        """What every head says, in the form of the single model's output.

        Args:
            inputs: as for calling the model.
            training: bool.

        Returns:
            `[batch, heads, …]`, in the structure of the outputs.
        """
        _, heads, _ = self._forward_heads(inputs, training)
        return self.outputs_like.pack([head.values for head in heads])

    def forward(self, inputs, training=None, ensembler_gradient=None):
        """Predictions of the heads and of the ensemble.

        Args:
            inputs: as for calling the model.
            training: bool or None.
            ensembler_gradient: float, factor on the gradient that flows from a
                parametric ensembler into the heads (section 3 of the paper), and
                into the trunk where the ensembler sees its features. Default: none.

        Returns:
            Flat list of `EnsemblePrediction`, one per output.
        """
        features, heads, masks = self._forward_heads(inputs, training)
        return [
            ensemblers.predict(
                ensembler, *stack_and_mask, ensembler_gradient, training, features
            )
            for ensembler, *stack_and_mask in zip(
                self.flat_ensemblers(), heads, masks, strict=True
            )
        ]

    def head(self, index):
        """One head with the trunk as a plain functional model.

        Args:
            index: int, from 0; negative ones count from the end.

        Returns:
            `keras.Model`, inputs -> predictions in the single model's form, sharing
            the variables of this model; of stacked heads a copy of their values.

        Raises:
            ValueError: there is no such head.
        """
        index = self._check_indices([index])[0]
        inputs = tf.nest.map_structure(model_inputs.input_like, self.trunk.input)
        raw = self.wrapper.layout.head(index)(self.trunk(inputs))
        raw = self.outputs_like.flatten(raw, "outputs")
        outputs = [
            keras.layers.Activation(link, dtype="float32", name=output_name)(tensor)
            for link, output_name, tensor in zip(
                self.wrapper.flat_links, self.outputs_like.names, raw, strict=True
            )
        ]
        return keras.Model(
            inputs, self.outputs_like.pack(outputs), name=f"{self.name}_head_{index}"
        )

    def select_heads(self, indices):
        """A multi-headed model of some of the heads, sharing all variables.

        Stacked heads are copied instead, with the present values.

        Args:
            indices: list of int, without repetition, in the order wanted. One alone
                needs no ensembler, and loses one with weights, such as ONE's gate.

        Raises:
            ValueError: no or repeated or unknown indices, or several heads, but not
                all, under an ensembler with weights, which were trained for all of
                them together.
        """
        is_one = isinstance(indices, numbers.Integral)
        indices = self._check_indices([indices] if is_one else list(indices))
        if not indices or len(set(indices)) < len(indices):
            raise ValueError(
                "`indices` must name at least one head, and each only once. "
                f"Received: indices={indices}"
            )
        everything = indices == list(range(self.num_heads))
        ensembler = self.ensembler
        if not everything and any(e.weights for e in self.flat_ensemblers()):
            if len(indices) > 1:
                raise ValueError(
                    "`indices` must name all heads, in order, or one, when the "
                    "ensembler has weights: they were made for all heads together. "
                    f"Received: indices={indices}"
                )
            ensembler = "mean"
        layout = self.wrapper.layout.select(indices)
        return self.with_parts(layout=layout, ensembler=ensembler)

    def with_parts(self, trunk=None, layout=None, ensembler=None):
        """A model of the same kind with another trunk, layout of heads or ensembler.

        It is not compiled; the parts that are not replaced are shared.
        """
        layout = layout or self.wrapper.layout
        wrapper = MultiHeadWrapper.from_layout(layout, self.wrapper.links)
        parts = trunk or self.trunk, wrapper, ensembler or self.ensembler, self.links
        return MultiHeadModel(*parts, self.width_multiplier, name=self.name)

    def select_outputs(self, names):
        """A multi-headed model of some of the outputs, sharing all variables.

        Leaves out, say, auxiliary classifiers, with layers that lead to nothing else.

        Args:
            names: name of an output, which then comes bare; or a list of names.

        Raises:
            ValueError: no or repeated or unknown names.
        """
        parts = output_selection.parts_for(self, names)
        return MultiHeadModel(*parts, self.width_multiplier, name=self.name)

    def with_execution(self, execution):
        """The same model with its heads run in another way; see `eh.multi_head`.

        Converts weights both ways. Trunk and ensembler are shared; heads that are run
        in another way than before have variables of their own, with the present values.

        Args:
            execution: `"separate"`, `"stacked"` or `"auto"`.

        Returns:
            A `MultiHeadModel`, not compiled.

        Raises:
            ValueError: an unknown `execution`, or `"stacked"` for heads that cannot be.
        """
        return self.with_parts(layout=self.wrapper.with_execution(execution).layout)

    def with_devices(self, devices):
        """The same model with each of its heads on a device of its own.

        Trunk, ensembler and loss stay where they are; see docs/distribution.md. Heads
        are copied, with the present values; trunk and ensembler are shared. Files hold
        no devices: a loaded model is on one until it is given some again.

        Args:
            devices: list with, for every head, the name of a device that TensorFlow
                knows, as `"GPU:1"` or one of `eh.remote_devices`; None for where the
                trunk is. Or None: all heads there, as without devices.

        Returns:
            A `MultiHeadModel`, not compiled.

        Raises:
            ValueError: unknown or too few devices, or heads stacked or in a tree.
        """
        return self.with_parts(layout=self.wrapper.with_devices(devices).layout)

    @property
    def devices(self):
        """Tuple of the heads' devices; None where they have none."""
        return self.wrapper.layout.devices

    def save(self, filepath, *args, **kwargs):
        """Saves the model, its optimizer and how it is trained to a `.keras` file.

        Args:
            filepath: str or path that ends in `.keras`.
            *args, **kwargs: as `keras.Model.save` takes them.

        Raises:
            ValueError: `filepath` does not end in `.keras`.
        """
        if not os.fspath(filepath).endswith(".keras"):
            raise ValueError(
                "`filepath` must end in `.keras`: Keras' other formats lose how a "
                "multi-headed model trains. For serving, `eh.export` writes a "
                f"SavedModel. Received: filepath={os.fspath(filepath)!r}"
            )
        if isinstance(getattr(self, "optimizer", None), LEGACY_OPTIMIZERS):
            warnings.warn(
                "Keras 2 writes no state of a legacy optimizer, of which those of "
                "tensorflow-addons are, into a `.keras` file: loaded, it starts with "
                "new moments. `tf.train.Checkpoint(model=…, optimizer=…)` keeps them. "
                f"Received: optimizer={type(self.optimizer).__name__}",
                stacklevel=2,
            )
        super().save(filepath, *args, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """As `keras.Model.export`; `eh.export` also folds, and serves every head."""
        placement.check_export(self.devices)
        if KERAS_3 and not args:
            kwargs.setdefault("input_signature", [model_inputs.input_specs(self)])
        return super().export(filepath, *args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        return None

    def get_config(self):
        save = keras.saving.serialize_keras_object
        flat = [save(layer) for layer in self.flat_ensemblers()]
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "trunk": save(self.trunk),
            "wrapper": save(self.wrapper),
            "ensembler": self.outputs_like.pack(flat),
            "links": self.links,
            "width_multiplier": self.width_multiplier,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        load = keras.saving.deserialize_keras_object
        config = dict(config)
        for part in ("trunk", "wrapper"):
            config[part] = load(config[part], custom_objects)
        config["ensembler"] = ensemblers.load(config["ensembler"], custom_objects)
        return cls(**config)

    def __dir__(self):
        # Keras' savers walk `dir()`, the two lines in opposite order. What has weights
        # must be met by one route, for weights files to fit both lines.
        return [n for n in super().__dir__() if n not in ("heads", "layers")]

    def get_build_config(self):
        return None  # Built at construction.

    def build_from_config(self, config):
        pass

    def _trackable_children(self, *args, **kwargs):
        children = super()._trackable_children(*args, **kwargs)
        if KERAS_3:  # TensorFlow's checkpoints do not look into lists of Keras 3
            flat = self.flat_ensemblers()
            children |= {f"ensembler_{i}": layer for i, layer in enumerate(flat)}
        return children

    def _forward_heads(self, inputs, training):
        """The features, and lists of the stacked `Prediction` and mask per output."""
        inputs = model_inputs.known_inputs(self.trunk, inputs)
        features = recomputation.run(self.trunk, inputs, training)
        stacks, masks = self.wrapper.stacked_logits(features, training=training)
        heads = [
            Prediction(stack, link, "logits" if taken == "linear" else "probabilities")
            for stack, link, taken in zip(
                stacks, self.flat_links, self.wrapper.flat_links, strict=True
            )
        ]
        return features, heads, masks

    def _make_ensemblers(self, ensembler):
        """One layer per output, built; the plain layer for a single output."""
        several = len(self.outputs_like) > 1
        given = self.outputs_like.flatten(ensembler, "ensembler", shared=True)
        layers = [ensemblers.get(one) for one in given]
        if several and any(
            a is b and not isinstance(a, ensemblers.Mean)
            for i, a in enumerate(layers)
            for b in layers[:i]
        ):
            raise ValueError(
                "`ensembler` must be a list or dict of one layer per output when there "
                f"are several outputs, here {self.outputs_like.names}. "
                f"Received: ensembler={ensembler!r}"
            )
        for layer, shape in zip(layers, self.wrapper.layout.head_shapes, strict=True):
            ensemblers.build(layer, self.num_heads, shape, self.trunk.output)
        return self.outputs_like.pack(layers)

    def _check_indices(self, indices):
        count = self.num_heads
        for index in indices:
            is_number = isinstance(index, numbers.Integral)
            if not is_number or not -count <= index < count:
                raise ValueError(
                    f"A head's index must be an integer from 0 to {count - 1}. "
                    f"Received: index={index!r}"
                )
        return [int(index) % count for index in indices]


def _policy_name(models):
    """The policy of the layers inside: `compile` scales losses by the model's own.

    None, the global policy, where no layer computes in float16.
    """
    for model in models:
        for layer in model.layers:
            if layer.compute_dtype == "float16":
                return layer.dtype_policy.name
    return None
