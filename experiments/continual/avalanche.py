"""Our learner as a strategy of Avalanche (extra `avalanche`): its plug-ins, evaluators and loggers see it.

>>> learner = Learner.start(Learning(memory=200), (28, 28, 1), 10)  # doctest: +SKIP
>>> strategy = WageStrategy(learner=learner, train_mb_size=100)  # doctest: +SKIP
>>> for experience in benchmark.train_stream:  # doctest: +SKIP
...     strategy.train(experience)
...     strategy.eval(benchmark.test_stream)
"""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate

from experiments.continual.bridges import Pixels, channels_last, grey_levels
from experiments.continual.learner import Learner
from experiments.continual.settings import eta_of
from wage_neuro.errors import SettingError


class Answers(torch.nn.Module):
    """The learner's logits, as a module that no gradient reaches."""

    def __init__(self, learner: Learner, pixels: Pixels) -> None:
        super().__init__()
        self.learner, self.pixels = learner, pixels
        self.unused = torch.nn.Parameter(torch.zeros(1))  # as an optimizer wants one

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.learner.predict(self.pixels(channels_last(x.cpu())))).float()


class WageStrategy(SupervisedTemplate):
    """Learns every minibatch by the learner's method, with its own memory, in whole steps.

    The minibatch is answered first, so that metrics of training see it as it came. No gradient of torch is
    taken: a plug-in that changes the loss, the gradients or the optimizer changes nothing here, one that
    changes the minibatches, such as a replay of Avalanche's own, does.

    Parameters
    ----------
    learner : Learner
    length : int, optional
        New samples of the whole stream, for an eta that changes on the way, such as '8, 2@80%'.
    boundaries : bool
        Tell the learner where an experience ends.
    pixels : from images of the benchmark to grey levels
    options : of SupervisedTemplate: train_mb_size, eval_mb_size, train_epochs, plugins, evaluator ...

    Raises
    ------
    SettingError
        If a minibatch is not whole steps, or `length` is missing.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        length: int | None = None,
        boundaries: bool = False,
        pixels: Pixels = grey_levels,
        train_mb_size: int = 100,
        eval_mb_size: int = 500,
        **options: Any,
    ) -> None:
        settings = learner.method.settings
        if train_mb_size % settings.step:
            raise SettingError(f"train_mb_size={train_mb_size}: want a multiple of step={settings.step}")
        if length is None and "@" in settings.eta:
            raise SettingError(f"eta {settings.eta!r}: it changes on the way, so want the stream's `length`")
        self.learner, self.boundaries, self.pixels = learner, boundaries, pixels
        self.eta = eta_of(settings.eta, length or 1)
        model = Answers(learner, pixels)
        super().__init__(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
            train_mb_size=train_mb_size,
            eval_mb_size=eval_mb_size,
            **options,
        )

    def training_epoch(self, **kwargs: Any) -> None:
        """Learn every minibatch; called by `train`, with Avalanche's callbacks around each part."""
        for batch in self.dataloader:
            if self._stop_training:
                break
            self.mbatch = batch
            self._unpack_minibatch()
            self._before_training_iteration(**kwargs)
            self._before_forward(**kwargs)
            with torch.no_grad():
                self.mb_output = self.forward()
                self._after_forward(**kwargs)
                self.loss = self._make_empty_loss() + self.criterion()
            self._before_backward(**kwargs)
            self._after_backward(**kwargs)
            self._before_update(**kwargs)
            self._learn()
            self._after_update(**kwargs)
            self._after_training_iteration(**kwargs)

    def _learn(self) -> None:
        whole = len(self.mb_y) // self.learner.method.settings.step * self.learner.method.settings.step
        if whole:
            images, labels = (
                self.pixels(channels_last(self.mb_x[:whole].cpu())),
                self.mb_y[:whole].cpu().numpy(),
            )
            self.learner.learn(images, labels, self.eta.log2_at(self.learner.seen))

    def _after_training_exp(self, **kwargs: Any) -> None:
        if self.boundaries:
            self.learner.end_task()
        super()._after_training_exp(**kwargs)
