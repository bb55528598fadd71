"""Chip descriptions: every number has its source, and a bad description is refused in one line."""

from __future__ import annotations

import json
import math
import re

import pytest

from mappings.chips.chip import GRADES, NAMES, Chip, ChipError


@pytest.mark.parametrize("name", NAMES)
def test_every_number_names_its_grade_and_source(name):
    table = Chip.load(name).to_json()
    numbers = {key: entry for key, entry in table.items() if isinstance(entry, dict)}
    assert len(numbers) > 30
    for key, entry in numbers.items():
        assert entry["grade"] in set(GRADES) - {"own"}, key
        assert len(entry["source"]) > 5, key


def test_what_is_published_of_loihi_1():
    chip = Chip.load("loihi1")
    assert (chip.cores, chip.core_neurons, chip.core_memory) == (128, 1024, 128 * 1024 * 8)
    assert (chip.energy_synapse, chip.energy_learning, chip.energy_hop_x, chip.energy_hop_y) == (
        23.6,
        120,
        3,
        4,
    )
    assert chip.payload_bits == 0
    assert chip.evidence["energy_synapse"].grade == "S"


def test_energies_of_loihi_2_are_a_proxy_and_say_so():
    first, second = Chip.load("loihi1"), Chip.load("loihi2")
    assert "proxy" in second.note
    for key, entry in second.to_json().items():
        if key.startswith(("energy", "time", "static")):
            assert entry["value"] == getattr(first, key)
            assert entry["grade"] == "?"
            assert "proxy" in entry["source"]


FPGAS = ("ice40up5k", "ecp5-25k", "ecp5-85k")


@pytest.mark.parametrize("name", FPGAS)
def test_no_energy_of_an_fpga_is_known(name):
    chip = Chip.load(name)
    assert not chip.tells_energy
    told = chip.to_json()
    assert {
        key for key, entry in told.items() if isinstance(entry, dict) and entry["value"] == "unknown"
    } == {key for key in told if key.startswith(("energy", "static"))}
    json.dumps(told, allow_nan=False)
    again = Chip.from_json(told)
    assert math.isnan(again.energy_synapse)
    assert again.to_json() == told


@pytest.mark.parametrize("name", FPGAS)
def test_an_fpga_has_the_block_ram_that_the_router_fills(name):
    """Each holds 8 of its 9 bits, or all where there is no ninth."""
    pytest.importorskip("amaranth", reason="the extra wage-neuro[rtl]")
    from mappings.hardware.rtl.devices import device_of

    resources = device_of(name).resources
    room = next(one.room for kind, one in resources.items() if kind.startswith("block RAM"))
    assert Chip.load(name).core_memory == room * (4096 if name == "ice40up5k" else 16384)


@pytest.mark.parametrize(("name", "bits"), [("loihi1", 18), ("ecp5-85k", 8)])
def test_a_synapse_that_learns(name, bits):
    assert Chip.load(name).synapse_bits == bits


def test_a_chip_of_your_own_may_change_a_known_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "loihi2"\nname = "mine"\ncores = { value = 4, unit = "cores" }\n')
    mine, known = Chip.load(path), Chip.load("loihi2")
    assert (mine.name, mine.cores, mine.core_memory) == ("mine", 4, known.core_memory)
    assert mine.evidence["cores"].grade == "own"
    assert mine.evidence["core_memory"] == known.evidence["core_memory"]


def test_a_whole_chip_of_your_own(tmp_path):
    known = Chip.load("loihi1").to_json()
    lines = ['name = "whole"']
    for key, entry in known.items():
        if isinstance(entry, dict):
            lines.append(f'{key} = {{ value = {str(entry["value"]).lower()}, unit = "{entry["unit"]}" }}')
    path = tmp_path / "whole.toml"
    path.write_text("\n".join(lines))
    assert Chip.load(path).static_power == known["static_power"]["value"]
    path.write_text("\n".join(line for line in lines if not line.startswith(("axons_in", "tag_bits"))))
    with pytest.raises(
        ChipError, match=r"missing axons_in, tag_bits \(or a base\)|missing tag_bits, axons_in"
    ):
        Chip.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cores = 4", "cores=4: want a table with value and unit"),
        ("cors = 4", "unknown key 'cors'"),
        ('cores = { value = -1, unit = "cores" }', "cores=-1: want 1 or more"),
        ('cores = { value = 0, unit = "cores" }', "cores=0: want 1 or more"),
        ('cores = { value = 4, unit = "neurons" }', "unit 'neurons': want 'cores'"),
        ('cores = { value = 4.5, unit = "cores" }', "cores=4.5: want a whole number"),
        ('cores = { value = true, unit = "cores" }', "cores=True: want a whole number"),
        ('learning = { value = 1, unit = "ability" }', "learning=1: want true or false"),
        ('energy_tile = { value = nan, unit = "pJ" }', "energy_tile=nan: want 0 or more"),
        ('energy_tile = { value = inf, unit = "pJ" }', "energy_tile=inf: want 0 or more"),
        ('cores = { value = "unknown", unit = "cores" }', "cores='unknown': want a whole number"),
        ('time_tile = { value = "unknown", unit = "ns" }', "time_tile='unknown': want a number"),
        ('energy_tile = { value = "much", unit = "pJ" }', "energy_tile='much': want a number"),
        ('cores = { value = 4, unit = "cores", source = 3 }', "source 3"),
        ('cores = { value = 4, unit = "cores", grade = "A" }', "grade 'A'"),
        ('cores = { value = 4, unit = "cores", grade = ["S"] }', "grade ['S']"),
        ('cores = { value = 4, unit = "cores", from = "x" }', "unknown key 'from'"),
        ('cores = { value = 400, unit = "cores" }', "cores=400, but its mesh has 128 places"),
        ("name = 3", "name=3: want a text"),
        ('base = "loihi3"', "base='loihi3': want loihi1, loihi2, ice40up5k, ecp5-25k, ecp5-85k"),
        ("cores = {", "no TOML file"),
    ],
)
def test_a_bad_description_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text if text.startswith("base") else f'base = "loihi2"\n{text}\n')
    with pytest.raises(ChipError, match=re.escape(message)) as refused:
        Chip.load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loihi3", "chip 'loihi3': want loihi1, loihi2, ice40up5k, ecp5-25k, ecp5-85k"),
        ("nowhere.toml", "No such file"),
        ("", "chip ''"),
    ],
)
def test_a_chip_that_is_not_there(name, message):
    with pytest.raises(ChipError, match=re.escape(message)):
        Chip.load(name)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ChipError, match="no TOML file"):
        Chip.load(path)
