"""A network as a table of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wage_neuro.network import Network

_COLUMNS = ("layer", "what", "output", "weights", "alpha", "bits of a sum", "bits of an error sum")


def table_of(network: Network) -> str:
    """Return a line a layer: shape of its output, weights, alpha, and the widest sums that it can have.

    Those follow from the bit widths, whatever the data; see `Layer.z_bound` and `Layer.d_bound`.
    """
    rows = [
        (
            str(layer.index),
            f"{layer.spec}-{layer.pool}" if layer.pool else str(layer.spec),
            " x ".join(map(str, layer.out_shape)),
            f"{layer.n_weights:,}",
            str(1 << layer.scale_shift),
            str(layer.z_bound.bit_length() + 1),
            str(layer.d_bound.bit_length() + 1) if layer.index else "",
        )
        for layer in network.layers
    ]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_COLUMNS, *rows)
    ]
    k_W, k_G = network.bits.k_W, network.bits.k_G
    head = f"{network}, input {' x '.join(map(str, network.input_shape))}, bits {network.bits}"
    foot = (
        f"{network.n_weights:,} weights: {-(-network.n_weights * k_W // 8):,} bytes to answer"
        f" ({k_W} bits each), {-(-network.n_weights * k_G // 8):,} to learn ({k_G} bits each)"
    )
    return "\n".join([head, *lines, foot])
