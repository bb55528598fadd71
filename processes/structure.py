"""The structural model of a WAGE layer: synapses, neurons and trackers, and what connects them."""

from __future__ import annotations

from typing import Any

from lava.magma.core.model.sub.model import AbstractSubProcessModel

from processes.alone import stream_of
from processes.exponent_tracker.process import ExponentTracker
from processes.forward_synapses.process import ForwardSynapses
from processes.layer_process import WageLayer
from processes.neurons.process import Neurons
from processes.part import InLayer
from processes.transposed_synapses.process import TransposedSynapses
from processes.widths import ERROR_TRACKER, FORWARD, GRADIENT_TRACKER, NEURONS, TRANSPOSED, LayerLimits
from wage_neuro.errors import SettingError


class StructuralLayerModel(AbstractSubProcessModel):
    """A layer from parts that a Loihi-class neurocore has, with the timing and the bits of the whole.

    Within a time step a message goes from part to part; the neurons delay the activations by one step and
    the transposed synapses the errors. The first layer has no transposed synapses, as nobody is below it;
    coincidence needs no scale, so no tracker of gradients.

    Subclasses say which Process they implement.
    """

    def __init__(self, proc: WageLayer) -> None:
        params = proc.proc_params
        if stream_of(params["schedule"]):
            raise SettingError(f"{proc.name}: a layer that stands alone has the behavioural model only")
        self.limits: LayerLimits = params["limits"]
        names = ("layer", "rules", "schedule", "seed", "signed_in", "kernels")
        self.common: dict[str, Any] = {name: params[name] for name in names}
        self._build_forward(proc)
        self._build_error_path(proc)
        if GRADIENT_TRACKER in self.limits:
            self._build_gradient_tracker(proc)
        if TRANSPOSED in self.limits:
            self._build_transposed(proc)

    def _part(self, part: str) -> InLayer:
        return InLayer(**self.common, limits=self.limits[part])

    def _build_forward(self, proc: WageLayer) -> None:
        step = int(proc.update_step.init[0])
        S = self.limits[FORWARD]["S"].fit(proc.S.init)
        self.synapses = ForwardSynapses(self._part(FORWARD), S, step)
        self.neurons = Neurons(self._part(NEURONS), step)
        proc.a_in.connect(self.synapses.a_in)
        self.synapses.z_out.connect(self.neurons.z_in)
        self.neurons.a_out.connect(proc.a_out)
        self.neurons.z_out.connect(proc.z_out)
        self.neurons.y_out.connect(self.synapses.y_in)
        proc.S.alias(self.synapses.S)

    def _build_error_path(self, proc: WageLayer) -> None:
        self.error_tracker = self._tracker(ERROR_TRACKER, proc.e_in.shape, proc.error_held.init)
        proc.e_in.connect(self.neurons.e_in)
        self.neurons.x_out.connect(self.error_tracker.x_in)
        self.error_tracker.m_out.connect(self.neurons.m_in)
        proc.error_held.alias(self.error_tracker.held)

    def _build_gradient_tracker(self, proc: WageLayer) -> None:
        self.gradient_tracker = self._tracker(GRADIENT_TRACKER, (1,), proc.gradient_held.init)
        self.synapses.g_out.connect(self.gradient_tracker.x_in)
        self.gradient_tracker.m_out.connect(self.synapses.m_in)
        proc.gradient_held.alias(self.gradient_tracker.held)

    def _build_transposed(self, proc: WageLayer) -> None:
        step = int(proc.update_step.init[0])
        self.transposed = TransposedSynapses(self._part(TRANSPOSED), self.synapses.S.init, step)
        proc.a_in.connect(self.transposed.a_in)
        self.neurons.e_pos_out.connect(self.transposed.e_pos_in)
        self.neurons.e_neg_out.connect(self.transposed.e_neg_in)
        self.neurons.y_out.connect(self.transposed.y_in)
        if GRADIENT_TRACKER in self.limits:
            self.gradient_tracker.m_out.connect(self.transposed.m_in)
        self.transposed.e_out.connect(proc.e_out)

    def _tracker(self, part: str, shape: tuple[int, ...], held: Any) -> ExponentTracker:
        return ExponentTracker(part, self._part(part), shape, held)
