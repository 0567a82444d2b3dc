"""One step of the optimizer for the gradients of several batches."""

import tensorflow as tf

from ensemble_heads import placement


class GradientAccumulator:
    """Adds up gradients, and hands their mean over a number of batches on.

    Works on both lines and under every strategy, where Keras 2 has nothing of the kind
    and Keras 3's own fails on several replicas. Every replica keeps sums of its own,
    since an optimizer reduces over the replicas when it is applied. Gradients under
    loss scaling are added as they are scaled: the scale changes in applied steps only,
    and one overflow spoils the sum, so that the optimizer skips that step.

    A plain object, not a Keras one: its variables are no weights of the model.

    Args:
        steps: int >= 2, batches for each step of the optimizer.
        variables: list of the trainable variables. Made inside of a strategy's scope.
        devices: collection of devices on which sums are beside their variables.
    """

    def __init__(self, steps, variables, devices=()):
        own = {
            "trainable": False,
            "synchronization": tf.VariableSynchronization.ON_READ,
        }
        self.steps, self._devices = steps, devices
        self._seen = tf.Variable(
            0, **own, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        self._sums = {}
        for variable in variables:
            with placement.beside(variable, devices):
                self._sums[id(variable)] = tf.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    **own,
                    aggregation=tf.VariableAggregation.SUM,
                )

    def apply(self, gradients, variables, apply):
        """Takes the gradients of a batch; called in a replica.

        Args:
            gradients: list of tensors or None.
            variables: list of the variables that they belong to.
            apply: callable, given such a list every `steps` batches.
        """
        sums = [self._sums[id(variable)] for variable in variables]
        present = [total for total, g in zip(sums, gradients) if g is not None]
        added = [g for g in gradients if g is not None]
        for total, gradient in zip(present, added):
            total.assign_add(tf.convert_to_tensor(gradient))
        self._seen.assign_add(1)

        def hand_on():
            means = iter([total / self.steps for total in present])
            apply([None if g is None else next(means) for g in gradients])
            self._seen.assign(0)
            for total in present:
                with placement.beside(total, self._devices):
                    total.assign(tf.zeros_like(total))

        def look(strategy=None):
            due = tf.equal(self._seen, self.steps)
            tf.cond(due, lambda: _run(hand_on, strategy), lambda: None)

        # An optimizer leaves its replica to apply gradients, which a branch of
        # `tf.cond` allows in no replica; so the branch is entered outside of them.
        if tf.__internal__.distribute.strategy_supports_no_merge_call():
            look()
        else:
            tf.distribute.get_replica_context().merge_call(look)


def _run(function, strategy):
    if strategy is None:
        function()
    else:
        strategy.extended.call_for_each_replica(function)
