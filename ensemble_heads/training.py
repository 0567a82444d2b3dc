"""Training and evaluation of multi-headed models in Keras' own `fit`."""

import tensorflow as tf

from ensemble_heads import input_checks, placement, recomputation
from ensemble_heads.gradient_accumulation import GradientAccumulator
from ensemble_heads.gradient_clipping import reduce_before_clipping
from ensemble_heads.keras_api import KERAS_3, build_optimizer, keras, list_metrics
from ensemble_heads.losses.ensemble_loss import integer_at_least
from ensemble_heads.training_plan import TrainingPlan


class EnsembleTrainer:
    """What a multi-headed model adds to `keras.Model` for training; a mixin.

    The model has `forward(inputs, training, ensembler_gradient)`, `outputs_like`,
    `wrapper` and `flat_links`, as `MultiHeadModel` does.
    """

    _plan = None
    _accumulator = None
    _recomputes = False
    _compile_arguments = None

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        ensemble_loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        head_metrics=None,
        weighted_head_metrics=None,
        gradient_accumulation_steps=1,
        recompute_activations=False,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        **kwargs,
    ):
        """Configures the model for training, as `keras.Model.compile` does.

        Where heads end in raw outputs and the loss has `from_logits=True`, the loss
        tells what they mean: `eh.ensemblers.Mean()` then averages softmax or sigmoid
        probabilities, and the model's prediction is still in logits.

        Args:
            optimizer: name or Keras optimizer.
            loss: base loss l(g, p): a name, a `keras.losses.Loss` or a callable
                `(y_true, y_pred)` that returns a value per example or per element;
                for several outputs also a list or dict.
            ensemble_loss: object of `eh.losses` that combines l over the heads and
                the ensemble. Default: `eh.losses.Ensembling(0.0)`, every head for
                itself.
            loss_weights: list or dict of floats, one per output.
            metrics, weighted_metrics: metrics of the ensemble's prediction.
            head_metrics: metrics of every single head, logged as
                `head_0_accuracy`, `head_1_accuracy`, …; and of all heads together,
                such as `eh.metrics.OracleAccuracy()`, logged once.
            weighted_head_metrics: the same, but by sample weights.
            gradient_accumulation_steps: int >= 1, the optimizer makes one step for so
                many batches, by the mean of their gradients: for batches of equal
                size the step that all of them together would give. Metrics and batch
                norms see single batches. An epoch may end between; what is summed up
                then is not saved with the model.
            recompute_activations: bool, compute most activations of a training step
                again for the gradient instead of keeping them: less memory, more
                time, the same numbers (`ensemble_heads/recomputation.py`). Needs Keras
                3. Layers that it does not know keep theirs: stacked ones, layers of
                your own, those that draw random numbers, synchronised batch norms.
            run_eagerly: bool, run steps as Python.
            steps_per_execution: int, batches per call of the compiled program.
            jit_compile: bool, compile by XLA. Default `"auto"`: Keras' own choice,
                which is no on a CPU. Under XLA labels are checked only where the
                targets are arrays.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: a loss on logits for a model that ends in an activation, or
                arguments that do not fit the outputs.
        """
        plan_arguments = {
            "loss": loss,
            "loss_weights": loss_weights,
            "ensemble_loss": ensemble_loss,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "head_metrics": head_metrics,
            "weighted_head_metrics": weighted_head_metrics,
        }
        count = integer_at_least(
            "gradient_accumulation_steps", gradient_accumulation_steps, 1
        )
        recomputation.check(recompute_activations, self.devices)
        run_arguments = {
            "optimizer": keras.optimizers.get(optimizer),
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            **kwargs,
        }
        with self.distribute_strategy.scope():
            plan = TrainingPlan(
                self.outputs_like,
                self.wrapper.flat_links,
                self.num_heads,
                self.flat_ensemblers(),
                shapes=self.wrapper.layout.head_shapes,
                **plan_arguments,
            )
        if self.devices:
            jit_compile = self._check_placed(jit_compile)
        automatic = jit_compile == "auto" and not KERAS_3
        super().compile(
            **{**run_arguments, "jit_compile": None if automatic else jit_compile}
        )
        if self.devices:
            placement.build_optimizer(
                self.optimizer, self.trainable_variables, self.devices
            )
        self.wrapper.layout.prepare(jit_compile is True)
        self._plan = plan
        self._recomputes = recompute_activations
        self._accumulator = None if count == 1 else self._make_accumulator(count)
        self._compile_arguments = _Arguments(
            {
                **run_arguments,
                **plan_arguments,
                "gradient_accumulation_steps": count,
                "recompute_activations": recompute_activations,
            }
        )
        if loss is not None:
            self.flat_links = plan.links

    def train_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            with recomputation.active_if(self._recomputes):
                loss, track = self._batch_loss(x, y, weights, training=True)
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            share = loss / replicas
            scaled = self._scaled(share)
        checks = [] if self.jit_compile else self._first_batch_checks(x, y, loss)
        with tf.control_dependencies(checks):
            self._apply_gradients(tape, scaled)
        return track()

    def test_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        _, track = self._batch_loss(x, y, weights, training=False)
        return track()

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; checks labels and the first batch's numbers."""
        self._begin_training()
        self._check_target_arrays(y, kwargs.get("sample_weight"))
        validation = kwargs.get("validation_data")
        if isinstance(validation, (tuple, list)):
            self._check_target_arrays(*validation[1:])
        with input_checks.clear_errors():
            return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        self._check_target_arrays(y, kwargs.get("sample_weight"))
        with input_checks.clear_errors():
            return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        self._check_target_arrays(y, sample_weight)
        with input_checks.clear_errors():
            return super().train_on_batch(x, y, sample_weight, *args, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        self._check_target_arrays(y, sample_weight)
        with input_checks.clear_errors():
            return super().test_on_batch(x, y, sample_weight, *args, **kwargs)

    def make_train_function(self, force=False):
        before = self.train_function
        super().make_train_function(force)
        if self.train_function is not before:
            # Made anew by every `compile`, as the plan is.
            self.train_function = self._plan.first_batch.watching(self.train_function)
        return self.train_function

    @property
    def metrics(self):
        if self._plan is None:
            return super().metrics
        return [*list_metrics(self._plan.keras_metrics()), *self._layer_metrics()]

    @property
    def metrics_names(self):
        if self._plan is None:
            return super().metrics_names
        return list(self.get_metrics_result())

    def get_metrics_result(self):
        if self._plan is None:
            return super().get_metrics_result()
        others = {metric.name: metric.result() for metric in self._layer_metrics()}
        return {**self._plan.results(), **others}

    def get_compile_config(self):
        if self._compile_arguments is None:
            return None
        save = keras.saving.serialize_keras_object
        return {k: save(v) for k, v in self._compile_arguments.values.items()}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        build_optimizer(self.optimizer, self.trainable_variables)

    def _layer_metrics(self):
        # Keras 3 brings a loss tracker of its own, which its own step would use.
        return [metric for metric in super().metrics if metric.name != "loss"]

    def _batch_loss(self, x, y, weights, training):
        """The mean loss of a batch, and a function that logs it."""
        plan = self._plan
        targets, weights = plan.flatten_targets(y, weights)
        predictions = self.forward(
            x, training=training, ensembler_gradient=plan.ensembler_gradient
        )
        seen = plan.ensemble_loss.observe(x, self.outputs_like, training)
        counts = self.optimizer is not None
        step = tf.convert_to_tensor(self.optimizer.iterations) if counts else None
        for i, prediction in enumerate(predictions):
            prediction.step = step
            prediction.observed = None if seen is None else seen[i]
        checked = not self.jit_compile
        values = plan.losses_of(targets, weights, predictions, checked)
        total = plan.total(values)
        # Once for all heads: a regulariser belongs to a weight, not to a loss.
        for penalty in self._penalties():
            total += tf.reduce_sum(tf.cast(penalty, total.dtype))

        def track():
            return plan.track(total, values, targets, weights, predictions)

        return total, track

    def _check_placed(self, jit_compile):
        """Refuses what has no devices of its own to give; returns `jit_compile`."""
        if jit_compile is True:
            raise ValueError(
                "`jit_compile` must not be True where heads have devices: a program of "
                "XLA is on one. Received: jit_compile=True"
            )
        with self.distribute_strategy.scope():
            elsewhere = tf.distribute.has_strategy()
        if elsewhere:
            raise ValueError(
                "Heads must have no devices under a strategy of tf.distribute, which "
                f"has its own. Received: devices={self.devices}"
            )
        return False

    def _penalties(self):
        """What layers add to the loss: regularisers, and what they were called on."""
        placed = self.wrapper.layout.penalties
        if placed is None:
            return self.losses
        if getattr(self, "_callable_losses", ()):  # of Keras 2 only
            raise ValueError(
                "`add_loss` must be called on layers of the trunk or the heads where "
                "heads have devices, and not on the model. "
                f"Received: a loss added to `{self.name}`"
            )
        rest = [self.trunk, *self.flat_ensemblers()]
        return [penalty for layer in rest for penalty in layer.losses] + placed

    def _make_accumulator(self, count):
        variables = self.trainable_variables
        with self.distribute_strategy.scope():
            # A branch of the step is no place for the optimizer to make variables.
            build_optimizer(self.optimizer, variables)
            return GradientAccumulator(count, variables, self.devices or ())

    def _scaled(self, loss):
        """The loss by the loss scale of mixed precision."""
        scale = "scale_loss" if KERAS_3 else "get_scaled_loss"
        return getattr(self.optimizer, scale, tf.identity)(loss)

    def _apply_gradients(self, tape, loss):
        variables = self.trainable_variables
        if not variables:
            return
        gradients = tape.gradient(loss, variables)

        def apply(gradients):
            if KERAS_3:
                gradients = reduce_before_clipping(self.optimizer, gradients)
            elif hasattr(self.optimizer, "get_unscaled_gradients"):
                gradients = self.optimizer.get_unscaled_gradients(gradients)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

        with placement.following(self.devices or (), self.optimizer):
            if self._accumulator is None:
                apply(gradients)
            else:
                self._accumulator.apply(gradients, variables, apply)

    def _first_batch_checks(self, x, y, loss):
        step = tf.convert_to_tensor(self.optimizer.iterations)
        return self._plan.first_batch.check(step, x, y, loss)

    def _begin_training(self):
        if self._plan is not None:
            step = tf.convert_to_tensor(self.optimizer.iterations)
            self._plan.first_batch.begin(step)

    def _check_target_arrays(self, y=None, sample_weight=None, *_):
        if y is None or self._plan is None:
            return
        outputs = self.outputs_like
        shapes = self.wrapper.layout.head_shapes
        # A list of one is that of the outputs; a longer one may be the targets.
        listed = isinstance(y, (list, tuple)) and len(y) == 1
        several = len(outputs) > 1 or listed
        targets = outputs.flatten(y, "y") if several else [y]
        weights = [sample_weight]
        if len(outputs) > 1:
            weights = outputs.flatten(sample_weight, "sample_weight", shared=True)
        for base, shape, target, name, weight in zip(
            *(self._plan.base_losses, shapes, targets, outputs.names, weights),
            strict=True,
        ):
            input_checks.check_target_array(
                *(base, shape, target, name, weight, self._has_masks)
            )

    def _has_masks(self):
        return any(map(_makes_masks, self._flatten_layers(include_self=False)))


def _makes_masks(layer):
    """Whether a layer makes a mask, and does not only hand it on."""
    if type(layer).__module__.partition(".")[0] in ("keras", "ensemble_heads"):
        makes = isinstance(layer, keras.layers.Masking)
        return makes or getattr(layer, "mask_zero", False)
    return type(layer).compute_mask is not keras.layers.Layer.compute_mask


class _Arguments:
    """Holds what `compile` got, out of sight of Keras' tracking of attributes."""

    def __init__(self, values):
        self.values = values
