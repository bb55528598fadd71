"""A network as a model of NeuroBench 2.3, the field's harness, so that its own metrics measure it.

Sums are torch's Linear and Conv2d with whole-number weights, exact in float32; activations are modules of
their own, which NeuroBench is told of. Images are (channels, height, width) input codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from neurobench.models import TorchModel
from torch import nn

from mappings.formats.inference import Inference, channels_first, flattens
from wage_neuro.errors import NetworkError
from wage_neuro.kinds import Kind
from wage_neuro.layers import Layer
from wage_neuro.network import Network
from wage_neuro.specs import Conv, Dense, assert_never, max_pool
from wage_neuro.support import Support

TAKES = Support(who="a NeuroBench model", kinds=frozenset({Kind.DENSE, Kind.CONV, Kind.MAX_POOL}))
EXACT = 2**24


class Activation(nn.Module):
    """Z to activation codes: rounded half to even, 0 to 2**(k_A - 1) - 1."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.scale, self.top = 2.0**-layer.z_shift, float(layer.bits.activation_max)

    def forward(self, Z: torch.Tensor) -> torch.Tensor:
        return torch.round(Z * self.scale).clamp(0, self.top)


def module_of(inference: Inference) -> nn.Sequential:
    """Torch module that answers (n, channels, height, width) or (n, features) codes with logits.

    Raises
    ------
    NetworkError
        If a sum could pass what float32 holds exactly.
    """
    network, parts = inference.network, list[nn.Module]()
    TAKES.check(network)
    for layer, V in zip(network.layers, inference.V, strict=True):
        if layer.z_bound > EXACT:
            raise NetworkError(f"layer {layer.index} {layer}: a sum may reach {layer.z_bound}, past float32")
        if flattens(network, layer):
            parts.append(nn.Flatten())
        parts += _sums(network, layer, V)
        if pool := max_pool(layer.pool):
            parts.append(nn.MaxPool2d(pool.size, pool.step))
        if not layer.is_last:
            parts.append(Activation(layer))
    return nn.Sequential(*parts)


def _sums(network: Network, layer: Layer, V: np.ndarray) -> list[nn.Module]:
    match layer.spec:
        case Dense():
            W = np.ascontiguousarray(channels_first(network, layer, V), np.float32)
            dense = nn.Linear(W.shape[1], W.shape[0], bias=False)
            dense.weight.data = torch.tensor(W)
            return [dense]
        case Conv(kernel=kernel, stride=stride):
            W = np.ascontiguousarray(V.transpose(3, 2, 0, 1), np.float32)
            conv = nn.Conv2d(W.shape[1], W.shape[0], kernel, stride, bias=False)
            conv.weight.data = torch.tensor(W)
            top, bottom, left, right = layer.padding
            return [nn.ZeroPad2d((left, right, top, bottom)), conv] if any(layer.padding) else [conv]
        case _:
            assert_never(layer.spec)


def model_of(inference: Inference) -> Any:
    """NeuroBench model that predicts classes."""
    model = TorchModel(module_of(inference))
    model.add_activation_module(Activation)
    return model


def codes_of(network: Network, images: np.ndarray) -> torch.Tensor:
    """Input codes of (n, ...) uint8 images, as the module takes them."""
    x = network.encode(images)
    if x.ndim == 4:
        x = np.moveaxis(x, -1, 1)
    return torch.tensor(np.ascontiguousarray(x), dtype=torch.float32)
