"""LayerCore: the parts of one layer, and what they do when."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import Component, In, Out

from mappings.hardware.rtl.axons import Axons
from mappings.hardware.rtl.direct_feedback import DirectFeedback
from mappings.hardware.rtl.neurons import Activation, ErrorNeurons, index_bits
from mappings.hardware.rtl.shape import ETA_BITS, HOLD_BITS, LayerShape
from mappings.hardware.rtl.synapses import Synapses, host_ports
from mappings.hardware.rtl.tracker import UNKNOWN, ExponentTracker
from processes.widths import ERROR_TRACKER, GRADIENT_TRACKER
from wage_neuro.random_bits import POST, PRE, UPDATE


class LayerCore(Component):
    """A layer that answers and learns one sample after another.

    Parameters
    ----------
    tokens : as of Axons

    Ports
    -----
    spike_valid, spike_index, spike, clear : as of Axons
    clearing : a sample is forgotten still; turn : nothing is left to learn above, strictly
    start, answered : begins and ends the way up
    advance, learn, skip : pipelined, a sample arrived that goes up in this time step; begins the way down; a
        sample leaves that is not learned
    heard : the error has come whole
    a_valid, a_index, a : activation codes other than 0, spikes for the layer above; of a hidden layer
    z_valid, z_last, z : logits of the last layer
    d_valid, d : the error from above; the way down begins with its last value
    back_valid, back : the error for the layer below
    e_valid, e : of the last layer, its error codes; they come to those that hear them directly as
    direct_valid, direct; start_direct : begins the way down of such a layer
    learned : the way down is over; quiet : it ended here, as no error is left
    log2_eta, frozen, hold : registers of the host
    request, block, purpose, ready, available, grant, take, bits : random bits
    host, host_*, feedback_* : as of Synapses
    """

    def __init__(self, shape: LayerShape, tokens: int = 16) -> None:
        self.shape, self.tokens = shape, tokens
        self.error_tracker = ExponentTracker(shape.limits[ERROR_TRACKER]["x_in"].worst)
        self.gradient_tracker = None
        if not shape.coincidence:
            self.gradient_tracker = ExponentTracker(shape.limits[GRADIENT_TRACKER]["x_in"].worst)
        super().__init__(
            {
                "spike_valid": In(1),
                "spike_index": In(index_bits(shape.inputs)),
                "spike": In(signed(shape.a_bits)),
                "clear": In(1),
                "clearing": Out(1),
                "turn": In(1),
                "start": In(1),
                "advance": In(1),
                "learn": In(1),
                "skip": In(1),
                "heard": Out(1),
                "answered": Out(1),
                "a_valid": Out(1),
                "a_index": Out(index_bits(shape.outputs)),
                "a": Out(shape.a_bits - 1),
                "z_valid": Out(1),
                "z_last": Out(1),
                "z": Out(signed(shape.z_bits)),
                "d_valid": In(1),
                "d": In(signed(shape.d_bits)),
                "back_valid": Out(1),
                "back": Out(signed(shape.back_bits)),
                "e_valid": Out(1),
                "e": Out(signed(shape.e_bits)),
                "direct_valid": In(1),
                "direct": In(signed(shape.e_bits)),
                "start_direct": In(1),
                "learned": Out(1),
                "quiet": Out(1),
                "log2_eta": In(signed(ETA_BITS)),
                "frozen": In(1),
                "hold": In(HOLD_BITS),
                "request": Out(1),
                "block": Out(32),
                "purpose": Out(4),
                "ready": In(1),
                "available": In(1),
                "grant": Out(1),
                "take": Out(1),
                "bits": In(256),
                **host_ports(shape),
                "feedback_write": In(1),
                "feedback_address": In(index_bits(max(1, shape.feedback_words))),
                "feedback_data": In(2 * shape.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, shape = Module(), self.shape
        m.submodules.axons = axons = Axons(shape, self.tokens)
        m.submodules.synapses = synapses = Synapses(shape)
        m.submodules.errors = errors = ErrorNeurons(shape)
        m.submodules.error_tracker = self.error_tracker
        self._connect(m, axons, synapses, errors)
        if shape.layer.is_last:
            m.d.comb += self.answered.eq(synapses.z_valid & synapses.z_last)
        else:
            self._activate(m, synapses, errors)
        if shape.hears_directly:
            self._hear_directly(m, errors)
        else:
            m.d.comb += [errors.d_valid.eq(self.d_valid), errors.d.eq(self.d)]
        self._control(m, axons, synapses, errors)
        return m

    def _hear_directly(self, m: Module, errors: ErrorNeurons) -> None:
        m.submodules.direct = direct = DirectFeedback(self.shape)
        m.d.comb += [
            direct.clear.eq(self.start),
            direct.e_valid.eq(self.direct_valid),
            direct.e.eq(self.direct),
            direct.start.eq(self.start_direct),
            errors.d_valid.eq(direct.d_valid),
            errors.d.eq(direct.d),
            direct.write.eq(self.feedback_write),
            direct.address.eq(self.feedback_address),
            direct.data.eq(self.feedback_data),
        ]

    def _connect(self, m: Module, axons: Axons, synapses: Synapses, errors: ErrorNeurons) -> None:
        tracker = self.error_tracker
        m.d.comb += [
            axons.spike_valid.eq(self.spike_valid),
            axons.spike_index.eq(self.spike_index),
            axons.spike.eq(self.spike),
            axons.clear.eq(self.clear),
            axons.advance.eq(self.advance),
            self.heard.eq(errors.done),
            axons.any.eq(errors.any),
            axons.token_take.eq(synapses.token_take),
            axons.ready.eq(self.ready),
            synapses.token.eq(axons.token),
            synapses.token_valid.eq(axons.token_valid),
            synapses.codes.eq(errors.codes),
            synapses.log2_eta.eq(self.log2_eta),
            synapses.available.eq(self.available),
            synapses.bits.eq(self.bits),
            errors.word.eq(synapses.word),
            errors.any_word.eq(axons.any_word),
            self.e_valid.eq(errors.e_valid),
            self.e.eq(errors.e),
            errors.exponent.eq(tracker.exponent),
            tracker.hold.eq(self.hold),
            tracker.peak.eq(errors.d_peak),
            self.z_valid.eq(synapses.z_valid),
            self.z_last.eq(synapses.z_last),
            self.z.eq(synapses.z),
            self.back_valid.eq(synapses.d_valid),
            self.back.eq(synapses.d),
            *(getattr(self, name).eq(getattr(axons, name)) for name in ("request", "block")),
            self.purpose.eq(Mux(synapses.draw, POST, PRE) if self.shape.coincidence else UPDATE),
            *(getattr(self, name).eq(getattr(synapses, name)) for name in ("grant", "take", "host_read")),
            *(
                getattr(synapses, name).eq(getattr(self, name))
                for name in (
                    "host",
                    "host_address",
                    "host_write",
                    "host_data",
                    "feedback_write",
                    "feedback_address",
                    "feedback_data",
                )
            ),
        ]

    def _activate(self, m: Module, synapses: Any, errors: ErrorNeurons) -> None:
        m.submodules.activation = activation = Activation(self.shape)
        m.d.comb += [
            activation.z_valid.eq(synapses.z_valid),
            activation.z_last.eq(synapses.z_last),
            activation.z.eq(synapses.z),
            errors.mask_write.eq(activation.a_valid),
            errors.mask_index.eq(activation.index),
            errors.active.eq(activation.active),
            errors.saturated.eq(activation.saturated),
            errors.masked.eq(activation.a_last),
            self.a_valid.eq(activation.a_valid & (activation.a != 0)),
            self.a_index.eq(activation.index),
            self.a.eq(activation.a),
            self.answered.eq(activation.a_last),
        ]

    def _control(self, m: Module, axons: Axons, synapses: Synapses, errors: ErrorNeurons) -> None:
        shape = self.shape
        updates = Signal()
        learns = ~self.frozen
        if self.gradient_tracker is not None:
            learns &= self.gradient_tracker.exponent != UNKNOWN
        m.d.comb += axons.updates.eq(updates)
        finish, leave = Signal(), Signal()
        m.d.comb += [
            leave.eq(finish | self.quiet | self.skip),
            axons.leave.eq(leave),
            errors.leave.eq(leave),
            errors.clear.eq(leave if shape.rules.pipelined else self.start),
        ]
        heard = self.learn if shape.rules.pipelined else self._heard(m, errors)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += updates.eq(learns)
                with m.If(self.start):
                    m.d.comb += axons.start_forward.eq(1)
                    m.next = "FORWARD"
                with m.Elif(heard):
                    m.next = "HEARD"
            with m.State("FORWARD"):
                m.d.comb += synapses.forward.eq(1)
                with m.If(self.answered):
                    m.next = "IDLE"
            with m.State("HEARD"):
                m.d.comb += self.error_tracker.step.eq(1)
                m.next = "DRAW" if shape.coincidence else "LEARN"
                with m.If(errors.e_peak == 0):
                    if shape.hears_directly:  # others may have an error still
                        m.next = "FINISH"
                    else:
                        m.d.comb += self.quiet.eq(1)
                        m.next = "IDLE"
            if shape.coincidence:
                with m.State("DRAW"):
                    m.d.comb += axons.start_draw.eq(updates)
                    m.next = "DRAWING"
                    with m.If(~updates):
                        m.next = "LEARN"
                with m.State("DRAWING"):
                    m.d.comb += synapses.draw.eq(1)
                    with m.If(synapses.end):
                        m.next = "LEARN"
            with m.State("LEARN"):
                m.d.comb += axons.start_learning.eq(1 if shape.sends_error else updates)
                m.next = "LEARNING"
                with m.If(axons.empty | ~axons.start_learning):
                    m.next = "FINISH"
            with m.State("LEARNING"):
                with m.If(synapses.end):
                    m.next = "FINISH"
            with m.State("FINISH"):
                m.d.comb += [finish.eq(1), self.learned.eq(1)]
                m.next = "IDLE"
        self._track_gradients(m, axons, synapses, errors, finish)

    def _heard(self, m: Module, errors: ErrorNeurons) -> Value:
        """Whether the error has come whole, and those above have learned from it."""
        came = Signal()
        m.d.sync += came.eq((came | errors.done) & ~self.turn)
        return (came | errors.done) & self.turn

    def _track_gradients(
        self, m: Module, axons: Axons, synapses: Synapses, errors: ErrorNeurons, finish: Signal
    ) -> None:
        """The largest gradient of a dense layer is the product of the largest factors."""
        tracker = self.gradient_tracker
        if tracker is None:
            return
        m.submodules.gradient_tracker = tracker
        m.d.sync += tracker.peak.eq(added_up(axons.a_peak, errors.e_peak))
        m.d.comb += [
            tracker.hold.eq(self.hold),
            tracker.step.eq(finish & ~self.frozen),
            synapses.exponent.eq(tracker.exponent),
        ]


def added_up(x: Value, y: Value) -> Value:
    """x * y without a multiplier: those of a device are for what comes in every cycle."""
    return sum((Mux(y[i], x << i, 0) for i in range(len(y))), start=Const(0, 1))
