"""What scaling measures and models: bytes as they are counted, times as they add up."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import datasets
from experiments.benchmarks import scaling
from experiments.benchmarks.scaling import (
    LINKS,
    Fit,
    HollowWire,
    bytes_rows,
    fit_of,
    fitted,
    measure,
    modelled,
    rules_of,
)
from mappings.cluster.cost import NOTHING, Link, float_load_of, load_of, traffic_of
from mappings.cluster.team import WiredTeam, float_bytes
from wage_neuro import Conv, Dense, Flatten, Network, NumpyEngine, Rules
from wage_neuro.engine import InTeam
from wage_neuro.errors import EngineError, SettingError
from wage_neuro.kernels.numpy_kernels import set_threads

SMALL = Network((Conv(4, 3), Flatten(), Dense(40), Dense(3)), (6, 6, 1))


@pytest.mark.parametrize("update", ["ternary", "wide"])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_bytes_are_those_that_a_team_counts(size, update):
    rules = Rules(batch=16, update=update)
    team = WiredTeam(HollowWire(size))
    engine = NumpyEngine(SMALL, rules, options=InTeam(team=team))
    rows = team.rows(16)
    n = 2 * (rows.stop - rows.start)
    rng = np.random.default_rng(0)
    engine.train(rng.integers(0, 256, (n, 6, 6, 1)).astype(np.uint8), rng.integers(0, 3, n), 3)
    one = traffic_of(SMALL, rules, size)
    assert team.traffic.to_json() == {name: 2 * value for name, value in one.to_json().items()}


def test_fewer_bytes_than_float32():
    for row in bytes_rows():
        assert row["ternary"] < row["wide"] < row["float32"]


def test_times_of_the_model():
    link, rules = Link(1e-3, 1e6, 1e-5), Rules(batch=16, update="ternary")
    sent = max(traffic_of(SMALL, rules, 2, rank).learning for rank in (0, 1))
    # three error maxima, one of all gradients, the sums, the steps: one round each; three messages of sums
    wanted = 6e-3 + (5 + 3) * 1e-5 + sent / 1e6
    assert link.seconds(load_of(SMALL, rules, 2)) == pytest.approx(wanted)
    assert load_of(SMALL, rules, 1) == float_load_of(SMALL, 1) == NOTHING
    floats = 2 * (1e-3 + 1e-5) + float_bytes(SMALL.n_weights, 2) / 1e6
    assert link.seconds(float_load_of(SMALL, 2)) == pytest.approx(floats)


def test_a_record_row_by_row_and_its_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "SHAPES", {"mlp": (28, 28, 1)})
    monkeypatch.setattr(scaling, "SIZES", (1, 2, 4))
    monkeypatch.setattr(scaling, "BATCH", 8)
    monkeypatch.setattr(scaling, "A_RANK", 2)
    output = tmp_path / "scaling.json"
    record = measure(output, ("local", "draw"), 1)
    assert json.loads(output.read_text()) == record
    assert len(record["local"]) == 6
    assert all(row["seconds"] > 0 for row in record["local"])
    assert output.with_suffix(".png").exists()
    assert capsys.readouterr().out.startswith(
        "local: network mlp, scaling strong, ranks 1, batch 8, seconds "
    )
    rows = modelled(record)
    assert len(rows) == 12
    for row in rows:
        if row["ranks"] == 1:
            assert row["images/s"] == row["images/s with float32"] == row["batch"] / row["seconds"]


TRUTH = Fit(latencies=1.5, bytes=1.04, round_seconds=3e-4, byte_seconds=2e-9)


def made_rows(truth=TRUTH):
    """Rows of `links` as a machine would give them of which the model is true."""
    rows = []
    for latency, megabits in ((0.0, None), (1e-3, 50.0), (1e-3, 500.0), (5e-3, 50.0), (5e-3, 500.0)):
        for network, update in scaling.ON_LINKS:
            row = {"network": network, "update": update, "batch": 128, "latency": latency, "Mb/s": megabits}
            row["own seconds"] = 0.01
            rows.append({**row, "seconds": truth.seconds(row)})
    return rows


def test_a_fit_finds_what_is_true_and_foretells_other_links():
    found = fit_of(made_rows())
    for name in ("latencies", "bytes", "round_seconds", "byte_seconds"):
        assert found[name] == pytest.approx(getattr(TRUTH, name), rel=1e-6)
    for errors in found["relative errors"].values():
        assert 0 <= errors["median"] <= errors["largest"] < 1e-6
    off = made_rows()
    off[-1]["seconds"] *= 1.5  # one of the four rows of the last link
    errors = fit_of(off)["relative errors"]
    assert errors["seconds foretold"]["largest"] == pytest.approx(1 / 3)
    assert 0 < errors["seconds of the model"]["largest"] < 1 / 3


def test_a_fit_is_never_negative():
    rows = [{**row, "seconds": row["own seconds"] / 2} for row in made_rows()]
    assert fitted(rows) == Fit(0, 0, 0, 0)


def test_the_model_follows_the_fit():
    local = [{"network": "mlp", "scaling": "strong", "ranks": 4, "batch": 256, "seconds": 1e-3}]
    stated, slower = modelled({"local": local}), modelled({"local": local, "fit": fit_of(made_rows())})
    assert [row["link"] for row in slower] == list(LINKS)
    rules, network = rules_of("ternary", 256), scaling.network_of("mlp")
    for before, after, link in zip(stated, slower, LINKS.values(), strict=True):
        assert after["images/s"] < before["images/s"]
        assert before["images/s"] == 256 / (1e-3 + link.seconds(load_of(network, rules, 4)))
        wanted = 256 / (1e-3 + TRUTH.of(link).seconds(float_load_of(network, 4)))
        assert after["images/s with float32"] == pytest.approx(wanted, rel=1e-6)


def test_a_record_of_links_is_fitted_and_drawn(tmp_path, capsys):
    output = tmp_path / "scaling.json"
    output.write_text(json.dumps({"links": made_rows(), "versions": {"links": {}}}))
    record = measure(output, ("draw",), 1)
    assert json.loads(output.read_text())["fit"] == record["fit"]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "fit: latencies 1.5, bytes 1.04, round_seconds 0.0003, byte_seconds 2e-09"
    assert told[1] == "fit: seconds of the model: 0.0 % from the measured in the median, 0.0 % at most"
    assert output.with_suffix(".png").exists()


def test_what_a_record_lacks_is_done_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "PARTS", ("bytes", "chips"))
    output, asked = tmp_path / "scaling.json", []

    def rows(name, broken=False):
        def made():
            asked.append(name)
            yield {"name": name}
            if broken:
                raise EngineError("the link is cut")

        return made

    monkeypatch.setattr(scaling, "bytes_rows", rows("bytes"))
    monkeypatch.setattr(scaling, "chips_rows", rows("chips", broken=True))
    for _ in range(2):
        with pytest.raises(EngineError, match=r"^the link is cut$"):
            scaling.main(["--output", str(output)])
    monkeypatch.setattr(scaling, "chips_rows", rows("chips"))
    scaling.main(["--output", str(output)])
    scaling.main(["--output", str(output)])
    assert asked == ["bytes", "chips", "chips", "chips"]
    assert json.loads(output.read_text())["chips"] == [{"name": "chips"}]
    scaling.main(["--output", str(output), "--parts", "bytes"])
    assert asked[4:] == ["bytes"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ranks_read_their_part_and_keep_little(monkeypatch):
    """The digits 800 times in a file, each rank reading its half of them in the epoch."""
    pytest.importorskip("mpi4py")
    monkeypatch.setattr(scaling.datasets, "load", lambda name, load=datasets.load: load("digits"))
    monkeypatch.setattr(scaling, "_mpiexec", lambda: str(Path(sys.executable).with_name("mpiexec")))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    alone, two = scaling.data_rows((800,))
    assert (alone["images"], alone["bytes of images"]) == (800 * 1437, 800 * 1437 * 64)
    whole = 800 * 1437 // 1024 * 1024 * 64
    (read,) = alone["bytes read in the epoch"]
    assert whole <= read < 1.4 * whole
    for read in two["bytes read in the epoch"]:
        assert whole / 2 <= read < 0.9 * whole
    assert len(two["peak bytes"]) == 2


def test_seeds_side_by_side(monkeypatch):
    monkeypatch.setattr(scaling, "SEEDS", (("4FC", scaling.ON_CHIP, 20),))
    try:
        (row,) = scaling.seeds_rows(1)
    finally:
        set_threads(1)
    assert (row["network"], row["batch"], row["shift"]) == ("4FC", 1, "held")
    assert (row["seeds"], row["samples"]) == (4, 20)
    beside = row["seconds side by side"]
    assert row["speed-up"] == row["seconds in turn"] / beside
    assert row["speed-up over two threads each"] == row["seconds in turn, two threads each"] / beside
    for how in ("in turn", "in turn, two threads each", "side by side"):
        assert row[f"processor seconds {how}"] > 0


def test_cuts_between_chips_take_fewer_messages():
    pytest.importorskip("pymetis")
    rows = list(scaling.chips_rows())
    assert {row["chip"] for row in rows} == {"Loihi 2", "LFE5U-85F, four cores"}
    for row in rows:
        assert row["chips"] > 1
        assert row["axons as cut"] < row["axons in order"]


def test_no_such_part(tmp_path):
    with pytest.raises(
        SettingError, match=r"^part 'bites': want bytes, chips, local, data, ranks, seeds, links, draw$"
    ):
        scaling.main(["--parts", "bites", "--output", str(tmp_path / "x.json")])
    assert rules_of("ternary", 8).update == "ternary"
