"""Loss: takes a prediction and a target, and sends the error back."""

from __future__ import annotations

from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.variable import Var

from processes.alone import ONLINE, Alone, dense_layer
from wage_neuro.errors import SettingError
from wage_neuro.layers import Layer
from wage_neuro.rules import LOSSES, Rules

TARGETS = ("one-hot", "labels")


class Loss(Alone):
    """Compares the products of a last layer with targets; the error leaves one time step later.

    Ports
    -----
    z_in : (classes,) products Z of the last layer, 32 bits
    y_in : (classes,) 1 at the right class and 0 elsewhere, all zeros without a target; or with
        targets='labels' (1,) the class, -1 without a target
    e_out : (classes,) error of the loss, 32 bits
    answer_out : (1,) the class of the largest product, -1 without a target; with the error

    Parameters
    ----------
    shape : (n_in, classes) of the last layer, or the layer, which sets what a product of 1.0 is
    delay : time steps by which a target arrives before its prediction: the layers, if both start together
    rules : the loss and its margin

    Vars
    ----
    loss : place in `rules.LOSSES`
    margin : eighths of the target, 0..8; see `wage_neuro.rules.Rules`
    seen, right : samples with a target, and those that were answered right
    """

    def __init__(
        self,
        shape: tuple[int, int] | Layer,
        *,
        delay: int = 0,
        targets: str = "one-hot",
        rules: Rules = ONLINE,
        name: str = "loss",
    ) -> None:
        if targets not in TARGETS:
            raise SettingError(f"targets={targets!r}: want {' or '.join(TARGETS)}")
        if type(delay) is not int or delay < 0:
            raise SettingError(f"delay={delay!r}: want a whole number of time steps >= 0")
        layer = shape if isinstance(shape, Layer) else dense_layer(*shape, last=True)
        super().__init__(layer=layer, rules=rules, delay=delay, targets=targets, name=name)
        self.z_in = InPort(shape=layer.out_shape)
        self.y_in = InPort(shape=layer.out_shape if targets == "one-hot" else (1,))
        self.e_out = OutPort(shape=layer.out_shape)
        self.answer_out = OutPort(shape=(1,))
        self.loss = Var(shape=(1,), init=LOSSES.index(rules.loss))
        self.margin = Var(shape=(1,), init=rules.margin)
        self.seen = Var(shape=(1,), init=0)
        self.right = Var(shape=(1,), init=0)

    def wanted(self) -> dict[str, str]:
        """A prediction and a target."""
        return {"z_in": "it wants a prediction", "y_in": "it wants a target"}
