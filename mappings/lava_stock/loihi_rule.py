"""Learning in Loihi's own terms: lava-nc's stock `LearningDense`, two rule strings and an error neuron.

The tag t of a synapse is its stored weight S, its weight w is 64 times the visible one, the pre trace x1 is
the activation, and the post trace y1 is the error that an `ErrorNeuron` sends back as third factor:

    dt = "x0*x1*y1*2^k"                                      accumulate activation x error in the tag
    dw = "u0*32*sgn(t-32) + u0*32*sgn(t+32) - u0*w"          show the tag as a ternary weight

Nothing of wage-neuro computes at the synapse. What the engine does otherwise than `wage_neuro` does, value
by value, is what tests/mappings/lava_stock/test_loihi_rule.py shows.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from lava.magma.core.learning.constants import GradedSpikeCfg
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.proc.dense.process import LearningDense
from lava.proc.io.source import RingBuffer

from mappings.engines.lava.graph import Graph
from processes.error_neuron.process import ErrorNeuron
from wage_neuro import layers
from wage_neuro.engine import check_training_input
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.random_bits import check_seed
from wage_neuro.rules import Rules
from wage_neuro.train import Batch

T_EPOCH = 2  # steps from a sample's spikes to its error at the synapses, which is when they learn
STEPS_A_SAMPLE = 2 * T_EPOCH  # dw reads the tag as it was before dt: the weights follow an epoch later
UNIT = 64  # a visible weight of 1
PAYLOAD = 2  # x1 is half of a spike's payload, so an activation travels doubled
WEIGHT_EXP = -7  # UNIT * PAYLOAD = 2**7: the sums are in units of Z
NO_DECAY = 2**60  # time constant at which exp(-1 / tau) is 1; the usual 65535 loses a 1 now and then
PRODUCT_SHIFT = 3  # bits that fixed point drops from a product of two traces: "2^k" adds x1 * y1 * 2**(k-3)
EXPONENTS = range(-7, 10)  # that a rule string may name


@dataclass(frozen=True)
class Learned:
    """What the synapses hold after learning.

    Attributes
    ----------
    tags : (n_in, n_out) int16 stored weights, in units of sigma(k_G)
    weights : (n_in, n_out) int16 weights, 64 times the visible ones
    """

    network: Network
    tags: np.ndarray
    weights: np.ndarray

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return (n, classes) int64 logits of (n, ...) uint8 images, as the synapses sum them."""
        x = self.network.encode(images).astype(np.int64).reshape(len(images), -1)
        return (PAYLOAD * x) @ self.weights >> -WEIGHT_EXP


def dw_string(threshold: int) -> str:
    """Rule that shows a tag as a weight: -64, 0, 64; and half of it where abs(t) is the threshold itself.

    >>> dw_string(32)
    'u0*32*sgn(t-32) + u0*32*sgn(t+32) - u0*w'
    """
    return f"u0*32*sgn(t-{threshold}) + u0*32*sgn(t+{threshold}) - u0*w"


def dw_string_to_even(threshold: int) -> str:
    """Rule whose halves go to 0, as Q_W's go to even: exactly ternary in this engine.

    A product of three signs is shifted right until -1 or 0 is left: floor(s / 2**16). That a chip floors
    too is not known; `dw_string` does not need it.

    >>> dw_string_to_even(32).split(" + ")[0]
    'u0*2^6*sgn(t+32)*sgn(t+32)*sgn(t+32)'
    """
    below, above = f"sgn(t+{threshold})", f"sgn(t-{threshold + 1})"
    return f"u0*2^6*{below}*{below}*{below} + u0*2^6*{above}*{above}*{above} + u0*2^6 - u0*w"


def learning_rule(network: Network, log2_eta: int, to_even: bool = False) -> Loihi3FLearningRule:
    """Return the rule of a network: t += eta * A * E / 2**(k_A-1 + k_E-1), w from t.

    Parameters
    ----------
    log2_eta : int
        eta = 2**log2_eta: the step, in units of sigma(k_G), for the largest activation and error.
    to_even : bool
        Take `dw_string_to_even` for `dw_string`.
    """
    bits = network.bits
    exponent = log2_eta - (bits.k_A - 1) - (bits.k_E - 1) + PRODUCT_SHIFT
    if exponent not in EXPONENTS:
        low, high = (log2_eta - exponent + end for end in (EXPONENTS[0], EXPONENTS[-1]))
        raise SettingError(
            f"eta=2**{log2_eta} with bits {bits}: the learning engine can do 2**{low} .. 2**{high};"
            " fewer bits of error (k_E) make it smaller"
        )
    threshold = 1 << (bits.k_G - 3)
    rule = Loihi3FLearningRule(
        dt=f"x0*x1*y1*2^{exponent}",
        dw=(dw_string_to_even if to_even else dw_string)(threshold),
        x1_tau=NO_DECAY,
        t_epoch=T_EPOCH,
    )
    rule.y1_tau = NO_DECAY
    return rule


@dataclass(frozen=True)
class LoihiRule:
    """The connected Processes of one dense layer that learns samples one after the other.

    Attributes
    ----------
    pre, target : RingBuffer
        Play each sample's activations as graded spikes, and its targets when its sums arrive.
    synapses : LearningDense
    error : ErrorNeuron
    """

    pre: RingBuffer
    target: RingBuffer
    synapses: LearningDense
    error: ErrorNeuron

    @classmethod
    def build(
        cls,
        network: Network,
        images: np.ndarray,
        labels: np.ndarray,
        S: np.ndarray,
        rule: Loihi3FLearningRule,
    ) -> LoihiRule:
        """Connect them; S are the (n_in, n_out) stored weights to begin with."""
        layer = _layer_of(network)
        n, after = len(images), T_EPOCH - 1
        payload = np.zeros((layer.fan_in, n, STEPS_A_SAMPLE), np.int32)
        payload[:, :, 0] = PAYLOAD * network.encode(images).astype(np.int32).reshape(n, -1).T
        target = np.zeros((network.classes, n, STEPS_A_SAMPLE), np.int32)
        target[labels, np.arange(n), after] = layer.target
        V = layers.visible_weights(layer, S).astype(np.int32)
        built = cls(
            RingBuffer(data=payload.reshape(layer.fan_in, -1)),
            RingBuffer(data=target.reshape(network.classes, -1)),
            LearningDense(
                weights=UNIT * V.T,
                tag_1=S.astype(np.int32).T,
                learning_rule=rule,
                num_message_bits=8,
                weight_exp=WEIGHT_EXP,
                graded_spike_cfg=GradedSpikeCfg.OVERWRITE,
                name="synapses",
            ),
            ErrorNeuron(layer, exponent=network.bits.k_A - 1 + layer.z_shift),
        )
        built.pre.s_out.connect(built.synapses.s_in)
        built.synapses.a_out.connect(built.error.a_in)
        built.target.s_out.connect(built.error.target_in)
        # not s_in_bap: a post spike would cut a negative y1 to 0
        built.error.y1_out.connect(built.synapses.s_in_y1)
        return built


def learn(
    network: Network,
    samples: tuple[np.ndarray, np.ndarray],
    log2_eta: int = 0,
    seed: int = 0,
    *,
    to_even: bool = False,
) -> Learned:
    """Train one dense layer in lava-nc's learning engine, one sample at a time, in the order given.

    Parameters
    ----------
    network : Network
        One Dense layer, ternary (k_W = 2), k_A and k_E up to 8 bits, k_G 3..9, unsigned input.
    samples : (n, ...) uint8 grey levels, (n,) whole numbers
    log2_eta : int
        eta = 2**log2_eta; what the engine can do depends on k_A and k_E.
    seed : int
        Names the initial weights.
    to_even : bool
        Weights whose tag is the threshold itself: 0 as in wage-neuro, or (False) half, by a rule that only
        needs sums of signs.

    Returns
    -------
    Learned

    Raises
    ------
    EngineError, SettingError, DataError
        If the network has no such form, eta is out of reach, or the images do not fit it.
    """
    layer, (images, labels) = _layer_of(network), samples
    check_training_input(network, Rules(batch=1), Batch(images, labels), log2_eta)
    rule = learning_rule(network, log2_eta, to_even)
    S = layers.initial_weights(layer, check_seed(seed))
    built = LoihiRule.build(network, images, labels, S, rule)
    with contextlib.closing(Graph(built.synapses)) as graph:
        graph.run(len(images) * STEPS_A_SAMPLE)
        tags, weights = graph.ask(built.synapses.tag_1.get), graph.ask(built.synapses.weights.get)
    return Learned(network, tags.T.astype(np.int16), weights.T.astype(np.int16))


def _layer_of(network: Network) -> Layer:
    """The one layer of a network that fits into the learning engine."""
    layer, bits = network.layers[0], network.bits
    if len(network.layers) > 1 or layer.window:
        raise EngineError(f"network {network}: the Loihi rule has one Dense layer")
    if bits.k_W != 2 or bits.k_A > 8 or bits.k_E > 8 or not 3 <= bits.k_G <= 9:
        raise EngineError(f"bits {bits}: the Loihi rule has k_W=2, k_A and k_E up to 8, k_G 3 to 9")
    if network.signed_input:
        raise EngineError("signed input: the learning engine's pre trace has no sign")
    return layer
