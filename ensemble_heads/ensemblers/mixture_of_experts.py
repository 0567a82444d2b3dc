"""A mixture of the heads as experts."""

from ensemble_heads.ensemblers.feature_gate import FeatureGate
from ensemble_heads.keras_api import register
from ensemble_heads.predictions import mixture


@register
class MixtureOfExperts(FeatureGate):
    """p_ens = sum_i g_i p_i, with weights g by a softmax gate on the trunk's features.

    The gate is one dense layer with bias over the average-pooled features. The mixture
    is of probabilities, computed in log space. The classical training by the
    likelihood of the mixture alone is `eh.losses.Ensembling(1.0)`; there heads and
    trunk, as under every ensembler with weights, see N times its gradient, the gate's
    own weights once.

    >>> import tensorflow as tf
    >>> heads, features = tf.fill([2, 3, 4], 0.25), tf.ones([2, 16])
    >>> MixtureOfExperts()([heads, features], link="softmax")[0].numpy()
    array([0.25, 0.25, 0.25, 0.25], dtype=float32)

    References:
        Jacobs et al. 1991; Jordan & Jacobs 1994.
    """

    def mix(self, heads, log_weights):
        return mixture(heads.logits, log_weights, heads.link, form=heads.form)
