"""The wire of torch.distributed: gloo between processors; between GPUs large messages go by NCCL."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from mappings.cluster.team import Wire
from wage_neuro.errors import EngineError

_TOLD = "wage-neuro told"


class TorchWire(Wire):
    """All ranks that `torchrun` has started.

    Raises
    ------
    EngineError
        Here and in every method: if another rank has died.
    """

    def __init__(self) -> None:
        nccl = torch.cuda.is_available() and dist.is_nccl_available()
        self.device = torch.device("cpu")
        if nccl and torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", "1")):
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        on_gpus = self.device.type == "cuda"
        with self._all_there():
            self.store, self.rank, self.size = next(dist.rendezvous("env://"))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpus else "gloo",
                store=dist.PrefixStore("wage-neuro", self.store),
                rank=self.rank,
                world_size=self.size,
            )

    @contextlib.contextmanager
    def _all_there(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise EngineError(f"another rank is gone: {str(error).splitlines()[0][:200]}") from None

    def exchange(self, to: Sequence[np.ndarray], sizes: Sequence[int]) -> Any:
        out = torch.from_numpy(np.concatenate(to)).to(self.device)
        into = torch.empty(sum(sizes), dtype=torch.uint8, device=self.device)
        with self._all_there():
            counts = [len(part) for part in to]
            return dist.all_to_all_single(into, out, list(sizes), counts, async_op=True), out, into

    def arrived(self, sent: Any) -> np.ndarray:
        request, _, into = sent
        with self._all_there():
            request.wait()
            found: np.ndarray = into.cpu().numpy()
            return found

    def gather(self, own: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        return self.arrived(self.exchange([own] * self.size, sizes))

    def most(self, values: np.ndarray) -> np.ndarray:
        return self._reduced(values, dist.ReduceOp.MAX)

    def total(self, values: np.ndarray) -> np.ndarray:
        return self._reduced(values, dist.ReduceOp.SUM)

    def _reduced(self, values: np.ndarray, operation: Any) -> np.ndarray:
        found: Tensor = torch.tensor(values)
        with self._all_there():
            dist.all_reduce(found, operation)
        return found.numpy().astype(np.int64)

    def objects(self, own: Any) -> list[Any]:
        found = [None] * self.size
        with self._all_there():
            dist.all_gather_object(found, own)
        return found

    def tells(self) -> bool:
        with contextlib.suppress(RuntimeError):  # the store has died with its rank
            return int(self.store.add(_TOLD, 1)) == 1
        return True

    def abort(self, code: int = 1) -> None:
        os._exit(code)  # torchrun, and the lines that break, end the others
