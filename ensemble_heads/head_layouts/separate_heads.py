"""Heads that share nothing but the features they take."""

import tensorflow as tf

from ensemble_heads import placement
from ensemble_heads.cloning import faithful_copy
from ensemble_heads.head_layouts.head_layout import (
    HeadLayout,
    check_num_heads,
    run,
)
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen


@register
class SeparateHeads(HeadLayout):
    """Heads that are functional models of their own, run one after the other.

    They can be on devices of their own. Of a batch the features then travel to every
    device once, and the raw outputs of its heads back; in training so do the gradients
    of both, and a few numbers.

    Args:
        heads: list of functional `keras.Model`, features -> raw outputs.
        devices: list of names of devices, one per head, on which the heads' variables
            are (see `placed`); None for where the rest of the model is. Not part of
            the configuration: no file asks for certain devices. Default: none.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape:
        What a head takes: one tensor, or a list or dict of tensors.

    Output shape:
        Raw outputs `[batch, heads, …]`, in the structure of a head's outputs.

    Raises:
        ValueError: no heads, or devices that do not fit them.
    """

    def __init__(self, heads, devices=None, **kwargs):
        check_num_heads(len(heads))
        super().__init__(heads, heads[0], **kwargs)
        if devices is not None:
            self.devices = placement.check_devices(devices, len(heads))
        self._penalties = _Penalties()

    @classmethod
    def placed(cls, heads, devices, **kwargs):
        """Copies of heads, with their present weights, each on its device.

        Args:
            heads, **kwargs: as for the class.
            devices: as for the class, or None for copies without devices.
        """
        if devices is None:
            return cls([faithful_copy(head) for head in heads], **kwargs)
        copies = []
        for head, device in zip(
            heads, placement.check_devices(devices, len(heads)), strict=True
        ):
            with placement.on(device):
                copies.append(faithful_copy(head))
        return cls(copies, devices, **kwargs)

    @property
    def heads(self):
        return list(self.parts)

    @property
    def num_heads(self):
        return len(self.parts)

    @property
    def penalties(self):
        return None if self.devices is None else list(self._penalties.values)

    def stacked_logits(self, features, training=None):
        if self.devices is None:
            return self.stack([run(head, features, training) for head in self.parts])
        raw, self._penalties.values = {}, []
        for device in dict.fromkeys(self.devices):
            places = [i for i, one in enumerate(self.devices) if one == device]
            *outputs, penalty = self._run_on(device, places, features, training)
            raw.update(zip(places, outputs, strict=True))
            if penalty is not None:
                self._penalties.values.append(penalty)
        return self.stack([raw[i] for i in range(self.num_heads)])

    def mapped(self, function):
        heads = []
        for i, head in enumerate(self.parts):
            with placement.on(self.devices and self.devices[i]):
                heads.append(function(head))
        return SeparateHeads(heads, self.devices, name=self.name)

    def select(self, indices):
        devices = self.devices and [self.devices[i] for i in indices]
        return SeparateHeads([self.parts[i] for i in indices], devices)

    def get_config(self):
        save = keras.saving.serialize_keras_object
        heads = [save(head) for head in self.parts]
        return {**super().get_config(), "heads": heads}

    @classmethod
    def from_config(cls, config):
        load = keras.saving.deserialize_keras_object
        return cls(**{**config, "heads": [load(head) for head in config["heads"]]})

    def _run_on(self, device, places, features, training):
        """Raw outputs of every head on one device, and the sum of their penalties."""
        flat = tf.nest.flatten(features)
        masks = [getattr(tensor, "_keras_mask", None) for tensor in flat]
        given = [*flat, *(mask for mask in masks if mask is not None)]

        def run_heads(tensors):
            inputs, rest = tensors[: len(flat)], iter(tensors[len(flat) :])
            for tensor, mask in zip(inputs, masks, strict=True):
                if mask is not None:
                    tensor._keras_mask = next(rest)
            inputs = tf.nest.pack_sequence_as(features, inputs)
            outputs, penalties = [], []
            for i in places:
                raw = run(self.parts[i], inputs, training)
                outputs += self.outputs_like.flatten(raw, "outputs")
                penalties += [tf.reduce_sum(widen(p)) for p in self.parts[i].losses]
            own = [getattr(tensor, "_keras_mask", None) for tensor in outputs]
            return [*outputs, *own, tf.add_n(penalties) if penalties else None]

        *results, penalty = placement.run_on(device, run_heads, given)
        count, size = len(results) // 2, len(self.outputs_like)
        for tensor, mask in zip(results[:count], results[count:], strict=True):
            if mask is not None:
                tensor._keras_mask = mask
        for first in range(0, count, size):
            yield self.outputs_like.pack(results[first : first + size])
        yield penalty


class _Penalties:
    """Tensors of the call made last, out of sight of Keras' tracking of attributes."""

    values = ()
