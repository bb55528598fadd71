"""How our models receive: a message as it is, where Lava's port adds it to zeros."""

from __future__ import annotations

import numpy as np
from lava.magma.core.model.py.ports import PyInPortVectorDense


class DirectIn(PyInPortVectorDense):
    """A dense port whose one sender's message is not copied; of several senders the sum, as Lava's.

    The message may be read-only.
    """

    def recv(self) -> np.ndarray:
        """Wait for a message."""
        if len(self.csp_ports) != 1:
            return super().recv()
        port = self.csp_ports[0]
        take = getattr(port, "take", port.recv)
        return self._transformer.transform(take(), port)


def given(message: np.ndarray) -> np.ndarray:
    """Mark a message that its sender will not write to any more: it need not be copied on its way."""
    message.flags.writeable = False
    return message
