"""A Loihi-class chip, as data: limits, abilities, energies and times, each number with its source.

`mappings/chips/*.toml` hold the chips that are known here; a user's own is a TOML file of the same form,
whole or as changes to a known one (`base = "loihi2"`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from wage_neuro.errors import WageError
from wage_neuro.registry import Registry

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable

    import tomllib
else:
    from importlib.abc import Traversable

    import tomli as tomllib

GRADES = {"S": "seen in public source or paper text", "2": "second-hand", "?": "unverified", "own": "yours"}
"""How well a number is known."""
UNKNOWN = "unknown"
"""In place of an energy or a power that nobody has told."""


class ChipError(WageError):
    """A chip description that is missing, damaged or of no sense."""


@dataclass(frozen=True)
class Evidence:
    """Where a number comes from: a grade of `GRADES`, and the source in words."""

    grade: str
    source: str


def _number(unit: str, least: float = 0, *, untold: bool | None = None) -> Any:
    return field(metadata={"unit": unit, "least": least, "untold": untold})


@dataclass(frozen=True)
class Chip:
    """What a chip can hold and do, and what an operation costs there.

    Each attribute but `name`, `note` and `evidence` is a table of the TOML file, with `value`, `unit` and,
    where they are known, `grade` and `source`. Widths count the sign.

    Attributes
    ----------
    cores, mesh_columns, mesh_rows, tile_cores : the mesh; messages go along the columns' axis first (X-Y)
    core_neurons, core_memory : of one core; memory is that of synapses
    word, list_header, list_synapses : an axon's synapses are stored in lists of at most `list_synapses`, each
        with a header, rounded up to whole words
    axons_in, axons_out : distribution lists of a core; (neuron, other core) edges that leave it
    weight_bits, tag_bits : fields of a synapse that learns
    weight_in_tag, reads_transposed : the weight is the tag rounded, and takes no room of its own; the error
        goes down through the memory that is read forward, and not through a copy
    gradient_bits : a second number a synapse beside the tag, in which a batch's gradient could be summed
    accumulator_bits : what a neuron takes in in one time step
    state_bits, payload_bits : of a neuron; of a spike, 0 where spikes are binary
    shared_weights, shared_learning : a core stores a convolution's kernel once; and can learn it so
    programmable_neurons, learning, third_factor : abilities; a third factor carries the error to a synapse
    energy_* , time_* , static_power : what an operation costs; what a chip draws when nothing happens; nan
        where it is unknown
    """

    name: str
    note: str
    evidence: Mapping[str, Evidence] = field(repr=False, compare=False)
    cores: int = _number("cores", 1)
    mesh_columns: int = _number("tiles", 1)
    mesh_rows: int = _number("tiles", 1)
    tile_cores: int = _number("cores", 1)
    core_neurons: int = _number("neurons a core", 1)
    core_memory: int = _number("bits a core", 1)
    word: int = _number("bits", 1)
    list_header: int = _number("bits")
    list_synapses: int = _number("synapses", 1)
    axons_in: int = _number("axons a core", 1)
    axons_out: int = _number("axons a core", 1)
    weight_bits: int = _number("bits", 1)
    tag_bits: int = _number("bits")
    weight_in_tag: bool = _number("ability", untold=False)
    reads_transposed: bool = _number("ability", untold=False)
    gradient_bits: int = _number("bits")
    accumulator_bits: int = _number("bits", 2)
    state_bits: int = _number("bits", 2)
    payload_bits: int = _number("bits")
    shared_weights: bool = _number("ability")
    shared_learning: bool = _number("ability")
    programmable_neurons: bool = _number("ability")
    learning: bool = _number("ability")
    third_factor: bool = _number("ability")
    energy_synapse: float = _number("pJ")
    energy_learning: float = _number("pJ")
    energy_neuron_active: float = _number("pJ")
    energy_neuron_inactive: float = _number("pJ")
    energy_tile: float = _number("pJ")
    energy_hop_x: float = _number("pJ")
    energy_hop_y: float = _number("pJ")
    static_power: float = _number("mW a chip")
    time_synapse: float = _number("ns")
    time_learning: float = _number("ns")
    time_neuron_active: float = _number("ns")
    time_neuron_inactive: float = _number("ns")
    time_tile: float = _number("ns")
    time_hop_x: float = _number("ns")
    time_hop_y: float = _number("ns")
    time_barrier: float = _number("ns")

    def __post_init__(self) -> None:
        places = self.mesh_columns * self.mesh_rows * self.tile_cores
        if self.cores > places:
            raise ChipError(
                f"chip {self.name!r}: cores={self.cores}, but its mesh has {places} places"
                f" ({self.mesh_columns} x {self.mesh_rows} tiles of {self.tile_cores} cores)"
            )

    @property
    def synapse_bits(self) -> int:
        """Of a synapse that learns."""
        return self.tag_bits + (0 if self.weight_in_tag else self.weight_bits)

    @property
    def tells_energy(self) -> bool:
        """Whether all its energies are known."""
        return not any(math.isnan(getattr(self, name)) for name in _FIELDS if _may_be_unknown(_FIELDS[name]))

    @classmethod
    def load(cls, name_or_path: str | Path) -> Chip:
        """Read a known chip by its name, or a chip of your own from a TOML file.

        Raises
        ------
        ChipError
            If there is none, or a key is unknown or missing, a value negative or of the wrong kind or unit.

        >>> loihi = Chip.load("loihi1")
        >>> loihi.core_neurons, loihi.evidence["core_neurons"].grade
        (1024, 'S')
        """
        text = str(name_or_path)
        if text in CHIPS or not text.endswith(".toml"):
            return cls._read(text, CHIPS.find(text).read_text(encoding="utf-8"))
        try:
            return cls._read(text, Path(text).read_text(encoding="utf-8"))
        except OSError as error:
            raise ChipError(f"{text}: cannot read this chip ({error.strerror})") from None
        except UnicodeDecodeError:
            raise ChipError(f"{text}: no TOML file (it is not text in UTF-8)") from None

    @classmethod
    def _read(cls, where: str, text: str) -> Chip:
        try:
            given = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ChipError(f"{where}: no TOML file ({error})") from None
        base = given.pop("base", None)
        if base is not None and base not in CHIPS:
            raise ChipError(f"{where}: base={base!r}: want {', '.join(CHIPS)}")
        known = cls.load(base) if base else None
        values: dict[str, Any] = {name: getattr(known, name) for name in _FIELDS} if known else dict(_UNTOLD)
        evidence = dict(known.evidence) if known else dict.fromkeys(_UNTOLD, NOT_TOLD)
        texts = {"name": Path(where).stem, "note": known.note if known else ""}
        for key, entry in given.items():
            if key in texts:
                if not isinstance(entry, str):
                    raise ChipError(f"{where}: {key}={entry!r}: want a text")
                texts[key] = entry
            elif key in _FIELDS:
                values[key], evidence[key] = _read_entry(where, _FIELDS[key], entry)
            else:
                raise ChipError(f"{where}: unknown key {key!r}; want name, note, base, {', '.join(_FIELDS)}")
        missing = [name for name in _FIELDS if name not in values]
        if missing:
            raise ChipError(f"{where}: missing {', '.join(missing)} (or a base)")
        return cls(texts["name"], texts["note"], evidence, **values)

    @classmethod
    def from_json(cls, numbers: dict[str, Any]) -> Chip:
        """Build what `to_json` returned."""
        told = [name for name in _FIELDS if name in numbers or name not in _UNTOLD]
        evidence = {name: Evidence(numbers[name]["grade"], numbers[name]["source"]) for name in told}
        values = {name: numbers[name]["value"] for name in told}
        values = {name: math.nan if value == UNKNOWN else value for name, value in values.items()}
        return cls(
            numbers["name"],
            numbers["note"],
            dict.fromkeys(_UNTOLD, NOT_TOLD) | evidence,
            **(_UNTOLD | values),
        )

    def to_json(self) -> dict[str, Any]:
        """Every number with its unit, grade and source."""
        numbers = {
            name: {
                "value": UNKNOWN if math.isnan(getattr(self, name)) else getattr(self, name),
                "unit": entry.metadata["unit"],
                "grade": self.evidence[name].grade,
                "source": self.evidence[name].source,
            }
            for name, entry in _FIELDS.items()
        }
        return {"name": self.name, "note": self.note, **numbers}


NAMES = ("loihi1", "loihi2", "ice40up5k", "ecp5-25k", "ecp5-85k")
CHIPS: Registry[Traversable] = Registry(
    "chip",
    "wage_neuro.chips",
    Traversable,
    {name: files("mappings").joinpath("chips", f"{name}.toml") for name in NAMES},
    problem=ChipError,
    more="the path of a .toml file",
)
"""Chips by name: TOML files, ours and those of other packages."""

_FIELDS: dict[str, Field[Any]] = {entry.name: entry for entry in fields(Chip) if "unit" in entry.metadata}


NOT_TOLD = Evidence("?", "not told")
_UNTOLD: dict[str, Any] = {
    name: entry.metadata["untold"] for name, entry in _FIELDS.items() if entry.metadata["untold"] is not None
}
"""Abilities that a file or a record may leave out, which older ones do."""
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def _may_be_unknown(entry: Field[Any]) -> bool:
    return entry.metadata["unit"] in ("pJ", "mW a chip")


def _read_entry(where: str, entry: Field[Any], given: object) -> tuple[int | float | bool, Evidence]:
    key, unit = entry.name, entry.metadata["unit"]
    where = f"{where}: {key}"
    if not isinstance(given, dict) or "value" not in given or "unit" not in given:
        raise ChipError(f"{where}={given!r}: want a table with value and unit, such as {unit!r}")
    if unknown := sorted(set(given) - {"value", "unit", "grade", "source"}):
        raise ChipError(f"{where}: unknown key {unknown[0]!r}; want value, unit, grade, source")
    if given["unit"] != unit:
        raise ChipError(f"{where}: unit {given['unit']!r}: want {unit!r}")
    grade, source = given.get("grade", "own"), given.get("source", "its own description")
    if grade not in tuple(GRADES) or not isinstance(source, str):
        raise ChipError(f"{where}: grade {grade!r}, source {source!r}: want {', '.join(GRADES)} and a text")
    value: Any = given["value"]
    if value == UNKNOWN and _may_be_unknown(entry):
        return math.nan, Evidence(grade, source)
    kind = _KINDS[str(entry.type)]
    if not isinstance(given["value"], kind) or isinstance(given["value"], bool) != (kind == (bool,)):
        words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        raise ChipError(f"{where}={value!r}: want {words[str(entry.type)]}")
    if not entry.metadata["least"] <= value < float("inf"):  # refuses nan too
        raise ChipError(f"{where}={value!r}: want {entry.metadata['least']} or more")
    return value, Evidence(grade, source)
