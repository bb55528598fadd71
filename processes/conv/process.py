"""WageConv: a convolutional WAGE layer, with its pooling, as a Lava Process."""

from __future__ import annotations

from processes.layer_process import WageLayer


class WageConv(WageLayer):
    """Convolution, max-pooling and activation in one Process: an operating-system process a WAGE layer.

    Ports and Vars as WageLayer. Weight shape (kernel, kernel, c_in, c_out).
    """
