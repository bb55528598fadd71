"""lava-nc's own continually learning prototypes: its `proc/clp` Processes, wired as its tutorials wire them.

Features -> LearningDense -> PrototypeLIF, a winner that resets all others; a NoveltyDetector and the errors
of the Readout make the Allocator name the next prototype, which takes over the features in one shot:

    dw = "2^-3*y1*x1*y0"

Nothing of wage-neuro computes here. What these Processes do otherwise than `wage_neuro.prototypes`:
- The nearest prototype is the first whose ramp of u reaches the threshold, so nearness is told in whole time
  steps, and of those of one step the first wins. The product alone decides, so samples must be of one length.
- A prototype stays as it was first written: y1 is 127 whatever it has won.
- A sample that nothing resembles is novel and allots one, in answering too; there is no switch.
- A silent input keeps the trace of the sample before, so a feature of 0 must send a spike all the same.
- The Allocator counts on past its prototypes; the simulation ends with an IndexError where there is no room.

Source: lava-nc 0.10.0, lava/proc/clp, and its repository's tutorials/in_depth/clp; Hajizada et al.,
arXiv:2404.00418.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.learning.constants import GradedSpikeCfg
from lava.magma.core.learning.learning_rule import Loihi3FLearningRule
from lava.proc.clp.novelty_detector.process import NoveltyDetector
from lava.proc.clp.nsm.process import Allocator, Readout
from lava.proc.clp.prototype_lif.process import PrototypeLIF
from lava.proc.dense.process import Dense, LearningDense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer

from mappings.engines.lava.graph import Graph
from wage_neuro.errors import DataError

LENGTH = 126  # of a sample: with the 1 that each feature sends at least, graded spikes of 7 bits
THRESHOLD = 120_000  # of 17 bits
WEIGHT_EXP = -3  # slows the ramps: equal samples meet after 60 time steps
WAIT = 100  # time steps after which a sample is novel: 0.6 as near as an equal one
SETTLE = 8  # time steps from a decision to the spike of the prototype that it allots
NO_DECAY = 2**60
STEPS_A_SAMPLE = WAIT + 3 * SETTLE
UNKNOWN = -1


@dataclass(frozen=True)
class Answers:
    """What came of a stream.

    Attributes
    ----------
    labels : (n,) answer to each sample, UNKNOWN where it had no prototype with a label
    prototypes : how many were allotted by the end of each of the two phases, learning and answering
    """

    labels: np.ndarray
    prototypes: tuple[int, int]


def of_one_length(x: np.ndarray) -> np.ndarray:
    """Scale (n, features) codes to vectors of `LENGTH`, in whole numbers."""
    norm = np.sqrt((x.astype(np.int64) ** 2).sum(axis=1, keepdims=True))
    if not norm.all():
        raise DataError("a sample without any feature: CLP compares directions")
    return np.rint(x * (LENGTH / norm)).astype(np.int32)


def learn_and_answer(x: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> Answers:
    """Let it learn samples one after another and then answer others, in one run of one graph.

    Parameters
    ----------
    x, labels : (n, features) unsigned codes, (n,) whole numbers
    asked : (m, features) codes that it has to answer

    Returns
    -------
    Answers to `asked`.
    """
    both = of_one_length(np.concatenate([x, asked]))
    samples, features, room = len(both), both.shape[1], len(both)
    payload = np.zeros((features, samples, STEPS_A_SAMPLE), np.int32)
    payload[:, :, 0] = both.T + 1
    said = np.zeros((samples, STEPS_A_SAMPLE), np.int32)
    # said once to check the answer, and again to the prototype that an error has allotted
    said[: len(x), WAIT + SETTLE] = said[: len(x), WAIT + 2 * SETTLE] = labels + 1

    rule = Loihi3FLearningRule(dw="2^-3*y1*x1*y0", x1_tau=NO_DECAY, t_epoch=1)
    source = RingBuffer(data=payload.reshape(features, -1))
    teacher = RingBuffer(data=said.reshape(1, -1))
    synapses = LearningDense(
        weights=np.zeros((room, features), int),
        learning_rule=rule,
        num_message_bits=8,
        weight_exp=WEIGHT_EXP,
        graded_spike_cfg=GradedSpikeCfg.OVERWRITE,
        name="prototypes",
    )
    neurons = PrototypeLIF(shape=(room,), du=0, dv=0, vth=THRESHOLD, learning_rule=rule, name="neurons")
    novelty, allocator, readout = (
        NoveltyDetector(t_wait=WAIT),
        Allocator(n_protos=room),
        Readout(n_protos=room),
    )
    answers = Sink(shape=(1,), buffer=samples * STEPS_A_SAMPLE)

    source.s_out.connect(synapses.s_in)
    synapses.a_out.connect(neurons.a_in)
    neurons.s_out_bap.connect(synapses.s_in_bap)
    neurons.s_out_y1.connect(synapses.s_in_y1)
    _through(neurons.s_out, np.ones((room, room)), neurons.reset_in)
    _through(source.s_out, np.ones((1, features)), novelty.input_aval_in)
    _through(neurons.s_out, np.ones((1, room)), novelty.output_aval_in)
    _through(novelty.novelty_detected_out, np.ones((1, 1)), allocator.trigger_in)
    _through(readout.trigger_alloc, np.ones((1, 1)), allocator.trigger_in)
    _through(allocator.allocate_out, np.ones((room, 1)), neurons.a_third_factor_in, num_message_bits=16)
    neurons.s_out.connect(readout.inference_in)
    teacher.s_out.connect(readout.label_in)
    readout.user_output.connect(answers.a_in)

    counts = []
    with contextlib.closing(Graph(synapses)) as graph:
        for part in (len(x), len(asked)):
            graph.run(part * STEPS_A_SAMPLE)
            counts.append(int(graph.ask(allocator.next_alloc_id.get)[0]) - 1)
        told = graph.ask(answers.data.get).reshape(samples, STEPS_A_SAMPLE)[len(x) :]
    first = told[np.arange(len(told)), (told != 0).argmax(axis=1)].astype(np.int64)
    return Answers(np.where(first > 0, first - 1, UNKNOWN), (counts[0], counts[1]))


def _through(sender: Any, weights: np.ndarray, receiver: Any, **options: int) -> None:
    """Connect two ports through fixed synapses, as Loihi has it."""
    dense = Dense(weights=weights, **options)
    sender.connect(dense.s_in)
    dense.a_out.connect(receiver)
