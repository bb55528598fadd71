"""The accelerator engine: the numpy engine's bits in PyTorch tensors, on a CUDA device or the processor.

It needs PyTorch: pip install "wage-neuro[torch]". It is the numpy engine with passes in tensors
(`mappings.engines.torch.passes`), and made for large batches: a batch takes some hundreds of tensor
operations whatever its size. On a CUDA device fused kernels take the paper's own rules and widths, and
normalised layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch

from mappings.engines.torch.passes import PART_BYTES, TorchPasses
from wage_neuro.control import Control, control_of
from wage_neuro.engine import InTeam, NumpyEngine
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.fixed_point import peak
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.settings import SIMULATOR, setting
from wage_neuro.team import Team
from wage_neuro.train import State

if TYPE_CHECKING:
    from mappings.engines.torch.fused import FusedNetwork

FUSED_DEVICES = {"cuda"}


def find_device(name: str | None = None) -> torch.device:
    """Return the device called 'cpu', 'cuda' or 'cuda:N'; without a name CUDA where there is one.

    Raises
    ------
    SettingError
        If it is none of these.
    EngineError
        If PyTorch finds no such accelerator here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in PART_BYTES or (kind == "cpu" and ":" in name) or (":" in name and not number.isdecimal()):
        raise SettingError(f"device {name!r}: want cpu, cuda or cuda:N")
    if kind == "cuda" and not (torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count()):
        raise EngineError(f"device {name!r}: PyTorch {torch.__version__} finds no such accelerator here")
    return torch.device(name)


@dataclass(frozen=True, kw_only=True)
class TorchOptions(InTeam):
    """Where to work."""

    device: str | None = setting(
        None, "cpu, cuda or cuda:N", SIMULATOR, shown="CUDA where there is one, otherwise cpu"
    )


class TorchEngine(NumpyEngine):
    """An engine of tensor operations; see `wage_neuro.engine.Engine`.

    Parameters
    ----------
    state : State, optional
        Where to go on from; otherwise the initial state of `seed`.
    options : TorchOptions, optional

    Raises
    ------
    SettingError
        If a gradient of this batch may leave 53 bits, or a stored weight is outside the rules' range.
    EngineError
        If the device is absent, or not exact.

    >>> net = Network.parse("2FC", (3,))
    >>> with TorchEngine(net, Rules(batch=4), options=TorchOptions(device="cpu")) as engine:
    ...     logits = engine.train(np.full((8, 3), 200, np.uint8), np.array([0, 1] * 4), log2_eta=0)
    >>> logits.shape, engine.state.step
    ((8, 2), 2)
    """

    name = "torch"
    supports = replace(NumpyEngine.supports, who="engine 'torch'")
    Options = TorchOptions

    def __init__(
        self,
        network: Network,
        rules: Rules | None = None,
        seed: int = 0,
        state: State | None = None,
        options: TorchOptions | None = None,
    ) -> None:
        options = options or TorchOptions()
        self.device = find_device(options.device)
        super().__init__(network, rules, seed, state, options)

    def _begin(self, state: State) -> None:
        _check_range(self.network, state, self.rules)
        self._seed = state.seed
        self._fused_kind = find_fused(self.network, self.rules, self.device, self.team)
        self._hold(state, fused=True)

    def _hold(self, state: State, fused: bool) -> None:
        """Take a state to the device: into fused kernels where they can hold it, if they are wanted."""
        self._fused: FusedNetwork | None = None
        if fused and self._fused_kind:
            with self._current():
                self._fused = self._fused_kind(self.network, self.rules, state, self.device)
        else:
            super()._begin(state)

    def _current(self) -> torch.cuda.device:
        """Make this engine's device the current one: kernels of ours run there, whatever they are given."""
        index = self.device.index
        return torch.cuda.device(-1 if index is None else index)  # -1 leaves the current one

    @cached_property
    def passes(self) -> TorchPasses:
        return TorchPasses(self.network, self.rules, self._seed, self.device)

    def watch(self, every: int) -> None:
        """See `Engine.watch`; the fused kernels count nothing."""
        if self._fused_kind and bool(every) == bool(self._fused):
            self._hold(self.state, fused=not every)
        super().watch(every)

    @property
    def state(self) -> State:
        return self._fused.state if self._fused else super().state

    def _train(
        self, images: np.ndarray, labels: np.ndarray, former: np.ndarray | None, control: int | Control
    ) -> np.ndarray:
        if self._fused and former is not None:  # which they know nothing of
            self._fused_kind = None
            self._hold(self.state, fused=False)
        if self._fused:
            controls = control_of(control).of_layers(len(self.network.layers), self.rules)
            with self._current():
                return self._fused.train(images, labels, controls)
        with self.passes.at_work():
            return super()._train(images, labels, former, control)

    def predict(self, images: np.ndarray) -> np.ndarray:
        if self._fused:
            self.network.check_images(images)
            with self._current():
                return self._fused.predict(images)
        with self.passes.at_work():
            return super().predict(images)


def find_fused(network: Network, rules: Rules, device: torch.device, team: Team) -> type[FusedNetwork] | None:
    """The fused kernels, on a CUDA device that has Triton, for a network and rules that they can hold."""
    if device.type not in FUSED_DEVICES or team.size > 1 or not find_spec("triton"):
        return None
    from mappings.engines.torch.fused import FusedNetwork, misfit

    return None if misfit(network, rules) else FusedNetwork


def _check_range(network: Network, state: State, rules: Rules) -> None:
    """Raise SettingError where a stored weight is outside the rules' range."""
    for layer, S in zip(network.layers, state.S, strict=True):
        bound = layer.bits.stored_max(rules.stored_range)
        if (highest := peak(S.astype(np.int32))) > bound:
            raise SettingError(
                f"stored weights of layer {layer.index} reach {highest}:"
                f" stored_range={rules.stored_range!r} ends at {bound}"
            )
