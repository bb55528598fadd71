"""Runs by a pattern with real numbers: the same data, order, augmentation and initial weights as integers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypedDict

from experiments.datasets import Dataset
from experiments.engines import ENGINES
from experiments.runs.training import Config, Run
from mappings.pattern import Pattern
from wage_neuro.checkpoint import read_arrays, write_arrays
from wage_neuro.engine import Engine
from wage_neuro.errors import CheckpointError, EngineError, WageError
from wage_neuro.network import Network
from wage_neuro.room import check_weights
from wage_neuro.rules import Rules
from wage_neuro.typed import Count, checked

FORMAT = "float-1"


@dataclass(frozen=True)
class FloatCheckpoint:
    """A float network, and where it stands; `state` is a `mappings.engines.torch.floats.FloatState`."""

    network: Network
    rules: Rules
    state: Any
    extra: dict[str, Any] = field(default_factory=dict)


def float_torch(pattern: str) -> Any:
    """The module that trains it; without PyTorch an EngineError that says what to install."""
    try:
        return import_module("mappings.engines.torch.floats")
    except ImportError as error:
        raise EngineError(f"pattern {pattern!r}: {error}; it needs {ENGINES.needs('torch')}") from None


class _Header(TypedDict):
    network: str
    input_shape: tuple[Annotated[int, (1, 2**31)], ...]
    bits: str
    signed_input: bool
    pattern: str
    rules: Rules
    seed: Count
    step: Count
    extra: dict[str, Any]


class FloatRun(Run):
    """A training run whose `Config.bits` is a pattern with f, or vanilla. It is always PyTorch's."""

    @staticmethod
    def _network_of(config: Config, data: Dataset) -> Network:
        bits = Pattern.parse(config.bits).bits
        return Network.parse(config.network, data.train_images.shape[1:], data.classes, bits, data.signed)

    @property
    def unchanged(self) -> list[str]:
        """None is known: where weights are real numbers, no step is too small."""
        return []

    @classmethod
    def _fresh(cls, config: Config, data: Dataset) -> Any:
        network, pattern = cls._network_of(config, data), Pattern.parse(config.bits)
        state = float_torch(config.bits).initial_float_state(network, pattern, config.seed)
        return FloatCheckpoint(network, config.rules, state)

    @staticmethod
    def _load(path: Path) -> Any:
        header, arrays = read_arrays(path, FORMAT)
        try:
            head = checked(_Header, header)
            network = Network.parse(
                head["network"], head["input_shape"], bits=head["bits"], signed_input=head["signed_input"]
            )
            check_weights(network)
            module, pattern = float_torch(head["pattern"]), Pattern.parse(head["pattern"])
            wanted = module.initial_float_state(network, pattern, head["seed"]).arrays
            if {n: (a.shape, a.dtype) for n, a in arrays.items()} != {
                n: (a.shape, a.dtype) for n, a in wanted.items()
            }:
                raise CheckpointError(f"arrays {sorted(arrays)}: want those of {head['pattern']}")
            state = module.FloatState(arrays, head["seed"], head["step"])
            return FloatCheckpoint(network, head["rules"], state, head["extra"])
        except EngineError:
            raise
        except (KeyError, TypeError, ValueError, WageError) as error:
            raise CheckpointError(f"{path}: damaged checkpoint ({error})") from None

    @staticmethod
    def _store(path: Path, saved: Any) -> None:
        network = saved.network
        header = {
            "format": FORMAT,
            "network": str(network),
            "input_shape": list(network.input_shape),
            "bits": str(network.bits),
            "signed_input": network.signed_input,
            "pattern": saved.extra["config"]["bits"],
            "rules": asdict(saved.rules),
            "seed": saved.state.seed,
            "step": saved.state.step,
            "extra": saved.extra,
        }
        write_arrays(path, header, saved.state.arrays)

    def _note_weights(self, engine: Any) -> None:
        """Real numbers are not counted."""

    @property
    def _title(self) -> str:
        return f"{self.config.network} on {Path(self.config.data).name}, {self.config.bits}, float32"

    def engine(self, name: str = "torch", **options: int | str | None) -> Engine:
        """Build the engine of real numbers; `options` may name its device, and the name is not read."""
        pattern, saved = Pattern.parse(self.config.bits), self.saved
        floats = float_torch(self.config.bits)
        told = floats.FloatOptions(device=options.get("device"))
        return floats.FloatEngine(saved.network, pattern, saved.rules, saved.state, told)

    def record(self, engine_name: str, command: str) -> dict[str, Any]:
        return super().record("torch float32", command)
