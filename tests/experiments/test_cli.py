"""The command `wage-neuro`: what it prints and leaves, what it refuses, how Ctrl-C ends it."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import cli, datasets
from experiments.commands import command_line
from experiments.engines import FASTEST
from experiments.entry import STOPPED
from experiments.runs import run_folder
from experiments.runs.training import Config, Run
from wage_neuro import Rules, __version__, checkpoint
from wage_neuro.errors import SettingError
from wage_neuro.kernels import build

try:
    import lava  # noqa: F401
except ImportError:  # newer Pythons
    ENGINES = ["numpy"]
else:
    ENGINES = ["numpy", "lava"]

ROOT = Path(cli.__file__).resolve().parents[1]
QUICK = ("--data", "digits", "--network", "16FC", "--batch", 32, "--epochs", 1, "--engine", "numpy")
ACCURACY = r"^test accuracy (\d+\.\d\d) %$"


# --- commands that work ------------------------------------------------------------------------------


def test_version_and_help(wage_neuro):
    assert wage_neuro("--version").out == f"wage-neuro {__version__}\n"
    for words in ((), ("--help",)):
        assert all(name in wage_neuro(*words).out for name in ("train", "evaluate", "demo", "data"))
    for name, options in {
        "train": "network data engine epochs seed eta bits batch lanes shift hold update stored-range"
        " validation train-images data-dir run resume loss margin mode pipelined model device feedback"
        " augment watch gamma signed output config save-config momentum sharpness generator",
        "evaluate": "data calibration unlike engine lanes model device data-dir",
        "demo": "epochs engine lanes model device seed config save-config",
        "data": "data-dir",
    }.items():
        ended = wage_neuro(name, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert set(options.split()) | {"help"} == set(re.findall(r"--([a-z-]+)", _options_of(ended.out)))


def _options_of(text: str) -> str:
    """First word of each line of a help text's option table."""
    return "\n".join(re.findall(r"^\W*(--[a-z-]+)", text, re.MULTILINE))


def test_data_lists_every_data_set(wage_neuro):
    ended = wage_neuro("data")
    assert ended.code == 0
    assert all(re.search(rf"^{name} ", ended.out, re.MULTILINE) for name in datasets.NAMES)
    assert ended.out.count("licence") == len(datasets.NAMES)


@pytest.mark.parametrize("engine", ENGINES)
def test_train_and_evaluate(engine, wage_neuro, tmp_path):
    words = (
        "train",
        *QUICK[:-1],
        engine,
        "--epochs",
        2,
        "--seed",
        7,
        "--run",
        "out",
        "--record",
        "table.json",
    )
    ended = wage_neuro(*words)
    assert (ended.code, ended.err) == (0, "")
    accuracy = re.fullmatch(ACCURACY, ended.last).group(1)
    assert float(accuracy) > 50

    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.npz",
        "metrics.jsonl",
        "weights.jsonl",
        "curve.png",
        "record.json",
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (folder / "curve.png").stat().st_size > 10_000
    record = json.loads((folder / "record.json").read_text())
    assert record == json.loads((tmp_path / "table.json").read_text())
    assert record["command"] == "wage-neuro " + " ".join(map(str, words))
    assert (record["engine"], record["config"]["seed"], record["curve"]) == (engine, 7, rows)
    assert record["data_sha256"] == datasets.load("digits").checksum
    assert record["versions"]["wage-neuro"] == __version__
    assert f"{100 * record['accuracy_last']:.2f}" == accuracy
    assert record["accuracy_best"] == max(row["accuracy"] for row in rows)

    for other in ENGINES:
        for what in ("out", "out/checkpoint.npz"):
            ended = wage_neuro("evaluate", what, "--engine", other)
            assert (ended.code, ended.last) == (0, f"test accuracy {accuracy} %")
    assert len(re.findall(r"\d %", ended.out)) == 10 + 1  # a class a line


def test_validation_is_what_is_reported(wage_neuro, tmp_path):
    ended = wage_neuro("train", *QUICK, "--validation", 200, "--train-images", 640, "--run", "out")
    assert re.fullmatch(r"validation accuracy \d+\.\d\d %", ended.last)
    assert "640 training and 200 validation images" in ended.out
    assert json.loads((tmp_path / "out" / "record.json").read_text())["measured_on"] == "validation"


def test_the_default_folder_is_always_a_new_one(wage_neuro, tmp_path):
    for _ in range(2):
        assert wage_neuro("train", *QUICK, "--train-images", 64).code == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits-16FC-s0", "digits-16FC-s0-2"}


def test_demo(wage_neuro, tmp_path):
    ended = wage_neuro("demo", "--epochs", 1, "--engine", "numpy")
    assert ended.code == 0
    assert re.fullmatch(ACCURACY, ended.last)
    (folder,) = (tmp_path / "runs").iterdir()
    hints = re.findall(r"^  wage-neuro (.*)$", ended.out, re.MULTILINE)
    assert [hint.split()[0] for hint in hints] == ["evaluate", "train", "train", "train"]
    assert wage_neuro(*hints[0].split()).last == ended.last
    assert str(folder.relative_to(tmp_path)) in hints[1]


def test_images_of_one_s_own(wage_neuro, tmp_path, sparse_images):
    images, labels = sparse_images(80, (6, 7, 2), 3)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    ended = wage_neuro("train", *QUICK, "--data", "mine.npz", "--run", "out", "--batch", 64)
    assert (ended.code, ended.err) == (0, "")
    assert "64 training and 16 test images (6, 7, 2)" in ended.out
    assert wage_neuro("evaluate", "out").last == ended.last
    assert wage_neuro("evaluate", "out", "--data", "mine.npz").last == ended.last


def test_a_stopped_run_says_how_to_go_on_and_the_command_it_gives_works(
    wage_neuro, tmp_path, helpers, monkeypatch
):
    ended = _stopped(wage_neuro, monkeypatch, "out")
    hint = re.fullmatch(r"stopped in epoch 1; go on with: wage-neuro (train --resume out)", ended.last).group(
        1
    )
    ended = wage_neuro(*hint.split(), "--engine", "numpy", "--epochs", 3, "--record", "table.json")
    assert ended.code == 0
    record = json.loads((tmp_path / "table.json").read_text())
    other = wage_neuro("train", *QUICK, "--epochs", 3, "--run", "other")
    assert other.last == ended.last
    wanted = json.loads((tmp_path / "other" / "record.json").read_text())
    assert record["command"].startswith("wage-neuro train --resume out")
    assert record["config"] == wanted["config"]
    assert helpers.without_seconds(record["curve"]) == helpers.without_seconds(wanted["curve"])


@pytest.mark.parametrize("name", ["a[b]c", "[/x]", "with a space"])
def test_the_hint_names_the_folder_as_it_is(name, wage_neuro, tmp_path, monkeypatch):
    """Brackets are rich's markup; a space needs a shell's quotes."""
    hint = _stopped(wage_neuro, monkeypatch, name).last.partition("go on with: wage-neuro ")[2]
    assert shlex.split(hint) == ["train", "--resume", name]
    assert (tmp_path / name / "checkpoint.npz").exists()


def _stopped(wage_neuro, monkeypatch, folder):
    """End of a run of two epochs that is told to stop after its first batch."""
    with monkeypatch.context() as patch:
        fit = Run.fit

        def stop(run, engine, report, *more):
            def and_stop(seen):
                report(seen)
                run.stop_wanted = True

            return fit(run, engine, and_stop, *more)

        patch.setattr(Run, "fit", stop)
        ended = wage_neuro("train", *QUICK, "--epochs", 2, "--run", folder)
    assert (ended.code, ended.err) == (STOPPED, "")
    return ended


def test_a_run_stopped_before_its_first_batch_can_go_on(wage_neuro, tmp_path):
    run = Run.start(Config(data="digits", network="16FC", epochs=1, rules=Rules(batch=32)), tmp_path)
    run.stop_wanted = True
    with run.engine("numpy") as engine:
        run.fit(engine)
    ended = wage_neuro("train", "--resume", tmp_path, "--engine", "numpy")
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.skipif("lava" not in ENGINES, reason="lava-nc is not installed")
def test_ctrl_c_while_the_graph_is_built_is_not_lost(wage_neuro, tmp_path, monkeypatch):
    from lava.magma.core.process.process import AbstractProcess

    compile = AbstractProcess.compile

    def interrupted(process, *args):
        os.kill(os.getpid(), signal.SIGINT)
        return compile(process, *args)

    monkeypatch.setattr(AbstractProcess, "compile", interrupted)
    # a shell that runs the tests in the background has them ignore Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ended = wage_neuro("train", *QUICK, "--engine", "lava", "--run", "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.code == STOPPED


def test_ctrl_c_in_a_finalizer_is_not_lost():
    """Python drops what is raised there; the command ends all the same, in one line."""
    code = (
        "import os, signal, time, weakref\n"
        "from experiments import cli, entry\n"
        "class Thing: pass\n"
        "def lose(_): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.01)\n"
        "def main():\n"
        "    thing = Thing()\n"
        "    held = weakref.ref(thing, lose)\n"
        "    del thing\n"
        "    time.sleep(30)\n"
        "    print('went on')\n"
        "cli.main = main\n"
        "entry.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (STOPPED, "", "wage-neuro: stopped\n")


# --- what is refused ---------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(wage_neuro, tmp_path):
    """Run the command; it must end with one line that matches, and leave every file as it was."""

    def command(message: str, *words: object) -> None:
        before = contents(tmp_path), {path for path in tmp_path.rglob("*") if path.is_dir()}
        ended = wage_neuro(*words)
        assert ended.code == 1
        assert ended.err.startswith("wage-neuro: ")
        assert ended.err.count("\n") == 1
        assert re.search(message, ended.err), ended.err
        assert "Traceback" not in ended.out + ended.err
        assert (contents(tmp_path), {path for path in tmp_path.rglob("*") if path.is_dir()}) == before

    return command


BAD_SETTINGS = {
    "--eta 3": "--eta 3: want a power of two",
    "--eta much": "--eta much: want a power of two",
    "--eta 8,4@5,2@3": "--eta '8,4@5,2@3': want .* epochs that grow",
    "--engine loihi": "--engine 'loihi': want numpy, compiled, torch, lava, brian2 or rtl",
    "--data imagenette": "--data 'imagenette': want digits, mnist",
    "--data missing.npz": r"missing\.npz: no such file",
    "--data-dir nowhere --data mnist": "--data-dir nowhere: no such folder",
    "--network 32C5-what": "--network '32C5-what': cannot read 'what'",
    "--network 8C9V": r"layer 0 8C9V: kernel 9 is larger than its input \(8, 8, 1\)",
    "--network MP2": "layer 0 MP2: a MaxPool must follow a Conv",
    "--network 0FC": "0FC|units=0",
    "--bits 1888": "--bits '1888': k_W=1: want a whole number in 2..16",
    "--bits 17": "--bits '17': want four widths",
    "--bits 2-17-8-8": "k_A=17: want a whole number in 2..16",
    "--bits many": "--bits 'many': want four widths",
    "--lanes 5 --engine lava": "--lanes 5: want a divisor of the batch, 32",
    "--lanes 0 --engine lava": "--lanes 0: want a divisor of the batch, 32",
    "--lanes 8": "--lanes 8: engine 'numpy' has no such option",
    "--device cuda": "--device cuda: engine 'numpy' has no such option",
    "--lanes 8 --engine lava": "--lanes 8 with shift='batch': .* lanes must be 32",
    "--batch 0": "--batch 0: want 1 or more",
    "--batch 1438": "--batch 1438: there are only 1437 training images",
    "--train-images 31": "--batch 32: there are only 31 training images",
    "--shift sometimes": "--shift 'sometimes': want batch or held",
    "--hold 0": "--hold 0: want 1 or more",
    "--update narrow": "--update 'narrow': want wide, ternary or coincidence",
    "--stored-range mine": "--stored-range 'mine': want authors or paper",
    "--epochs 0": "--epochs 0: want 1 or more",
    "--epochs -1": "--epochs -1: want 1 or more",
    "--seed -1": "--seed -1: want a whole number in 0..",
    "--validation 1437": "--validation 1437: want 1..1436",
    "--validation -1": "--validation -1: want 1..1436",
    "--train-images 0": "--train-images 0: want 1..1437",
    "--mode chip": "--mode 'chip': want batch or onchip",
    "--loss hinge": "--loss 'hinge': want sse, one-sided or softmax",
    "--margin 0.4": r"--margin 0\.4: want a share of the target in eighths",
    "--gamma 3": r"--gamma 3: want 1, 2, 4, 8, 16, 32, 64 or 128",
    "--gamma 2 --engine brian2": r"--gamma 2: engine 'brian2' has 1 only",
    "--update coincidence": "--batch 32 with --update 'coincidence': spikes meet one sample at a time",
    "--pipelined": "shift='batch' with pipelined: want 'held'",
    "--mode onchip --pipelined --lanes 4 --engine lava": "--lanes 4 with pipelined: .* lanes must be 1",
    "--model chip --engine lava": "--model 'chip': want behavioural or structural",
    "--model structural": "--model structural: engine 'numpy' has no such option",
    "--model structural --engine lava": "--model structural: the structural model has 'held' only;"
    " --shift, not given, is 'batch'",
    "--margin 1e999999999": "--margin 1e999999999: want a share of the target in eighths",
    "--network 300000FC-300000FC": r"90,0\d\d,\d00,000 weights: takes 2\.7 TiB of memory; .* are free",
    "--network 99999999999999999999FC": "cannot read '99999999999999999999FC'",
    "--network lenet5": "--network 'lenet5': .*; did you mean lenet?",
    "--engine numpi": "--engine 'numpi': want .*; did you mean numpy?",
    "--data mnsit": "--data 'mnsit': want .*; did you mean mnist?",
    "--batch 9999999 --bits 16-16-16-16": "--batch 9999999",
}


def test_a_mode_changes_defaults_and_nothing_that_is_given(wage_neuro, tmp_path):
    words = ("--data", "digits", "--network", "16FC", "--train-images", 40, "--engine", "numpy")
    for extra, batch, update, epochs in (
        (("--mode", "onchip", "--epochs", 1), 1, "ternary", 1),
        (("--mode", "onchip", "--epochs", 1, "--pipelined", "--batch", 20), 20, "ternary", 1),
        (("--mode", "onchip", "--epochs", 1, "--update", "coincidence"), 1, "coincidence", 1),
    ):
        folder = tmp_path / f"{batch}-{update}"
        assert wage_neuro("train", *words, *extra, "--run", folder).code == 0
        config = json.loads((folder / "record.json").read_text())["config"]
        rules = config["rules"]
        assert (rules["batch"], rules["update"], config["epochs"]) == (batch, update, epochs)
        assert (rules["shift"], rules["loss"], rules["margin"]) == ("held", "one-sided", 3)
        assert config["eta"].startswith("8, 4@8")


@pytest.mark.skipif("lava" not in ENGINES, reason="lava-nc is not installed")
def test_the_structural_model_gives_the_same_bits(wage_neuro, tmp_path, assert_same_state):
    words = ("--data", "digits", "--network", "16FC", "--train-images", 64, "--epochs", 1)
    onchip = ("--mode", "onchip", "--pipelined", "--batch", 32)
    for engine in (("numpy",), ("lava", "--model", "structural")):
        ended = wage_neuro("train", *words, *onchip, "--run", engine[0], "--engine", *engine)
        assert (ended.code, ended.err) == (0, "")
        assert "saturates" not in ended.out
    states = [checkpoint.load(tmp_path / name / "checkpoint.npz").state for name in ("numpy", "lava")]
    assert_same_state(*states)
    assert states[0].step == 64

    wide = ("--resume", "lava", "--epochs", 1, "--engine", "lava", "--model", "structural")
    assert wage_neuro("train", *wide).code == 0
    ended = wage_neuro("train", *words, *onchip, "--bits", "28C8", "--run", "wide", *wide[4:])
    assert "saturates: layer 0 16FC forward synapses: S may reach 1024, past its 9 bits" in ended.out


@pytest.mark.parametrize("words", BAD_SETTINGS)
def test_a_setting_that_cannot_be(words, refused):
    if "lava" in words and "lava" not in ENGINES:
        pytest.skip("lava-nc is not installed")
    refused(BAD_SETTINGS[words], "train", *QUICK, "--run", "out", *words.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trai --epochs 3", "'trai': no such command; did you mean train? (wage-neuro --help)"),
        ("--foo", "--foo: no such option (wage-neuro --help)"),
        ("runs foo", "'foo': no such command (wage-neuro runs --help)"),
        ("runs show", "want RUN, which is not given (wage-neuro runs show --help)"),
        ("evaluate", "want RUN, which is not given (wage-neuro evaluate --help)"),
        ("evaluate a b c", "'b c': more than this command takes (wage-neuro evaluate --help)"),
        ("train --epochs many", "--epochs 'many': want a whole number (wage-neuro train --help)"),
        ("train --batch=1.5", "--batch '1.5': want a whole number (wage-neuro train --help)"),
        ("train --lanes x", "--lanes 'x': want a whole number (wage-neuro train --help)"),
        ("train --epoch 3", "--epoch: no such option; did you mean --epochs? (wage-neuro train --help)"),
        ("train --no-such-option=1", "--no-such-option=1: no such option (wage-neuro train --help)"),
        ("train --network", "--network: want a value after it (wage-neuro train --help)"),
        ("train --pipelined=3", "--pipelined=3: takes no value (wage-neuro train --help)"),
        ("curves x --mark y", "--mark 'y': want a number (wage-neuro curves --help)"),
    ],
)
def test_what_is_typed_wrongly_is_told_in_one_line(words, message, wage_neuro, tmp_path):
    ended = wage_neuro(*words.split())
    assert (ended.code, ended.out, ended.err) == (2, "", f"wage-neuro: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_group_without_a_command_shows_its_help(wage_neuro):
    ended = wage_neuro("runs")
    assert "compare" in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_the_matrix_on_the_terminal_is_that_of_the_answers(finished, wage_neuro, tmp_path):
    run = Run.resume(finished)
    with run.engine("numpy") as engine:
        answers = run.predict(engine).argmax(axis=1)
    ended = wage_neuro("evaluate", finished, "--engine", "numpy")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    first = next(i for i, line in enumerate(lines) if "answer by column" in line) + 2
    shown = [
        [0 if cell == "·" else int(cell) for cell in line.split()[1:]] for line in lines[first : first + 10]
    ]
    wanted = np.zeros((10, 10), int)
    np.add.at(wanted, (run.data.test_labels, answers), 1)
    assert shown == wanted.tolist()


def test_train_says_how_it_learns_before_it_starts(wage_neuro):
    ended = wage_neuro("train", *QUICK, "--eta", "8, 2@1", "--train-images", 320)
    before = ended.out[: ended.out.index("trained in")]
    assert "mode batch: batch 32, wide updates, shift batch; eta 8, 2@1; 1 epochs, seed 0" in before
    ended = wage_neuro("train", *QUICK[:4], "--mode", "onchip", "--train-images", 50, "--epochs", 1)
    assert "mode onchip: one sample at a time, ternary updates, one-sided error, margin 3/8" in ended.out


GREY, LABELS = np.zeros((60, 8, 8), np.uint8), np.arange(60) % 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GREY / 255, "labels": LABELS}, r"float64 images in 0\.0\.\.0\.0: want uint8"),
        ({"images": np.full(GREY.shape, np.nan), "labels": LABELS}, "float64 images with NaN: want uint8"),
        ({"images": GREY, "labels": LABELS - 1}, r"labels? -1\b.*: want 0"),
        ({"images": GREY, "labels": LABELS / 1}, r"float64 labels of shape \(60,\): want \(n,\) integers"),
        ({"images": GREY, "labels": LABELS[:-1]}, "60 images but 59 labels"),
        ({"images": GREY[0], "labels": LABELS}, r"images of shape \(8, 8\): want"),
        ({"pictures": GREY}, "has pictures: want"),
        ({"images": GREY[:0], "labels": LABELS[:0]}, "no images"),
        ({"images": GREY, "labels": LABELS + 10**9}, r"1000000\d\d\d"),
    ],
    ids=[
        "float",
        "NaN",
        "label -1",
        "float labels",
        "too few labels",
        "one image",
        "keys",
        "empty",
        "huge label",
    ],
)
def test_an_npz_that_cannot_be(arrays, message, refused, tmp_path):
    np.savez(tmp_path / "mine.npz", **arrays)
    refused(rf"mine\.npz.*{message}|{message}", "train", *QUICK, "--data", "mine.npz", "--run", "out")


def test_an_npz_cut_short(refused, tmp_path):
    np.savez(tmp_path / "mine.npz", images=GREY, labels=LABELS)
    (tmp_path / "mine.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:2000])
    refused(r"mine\.npz: not a readable \.npz file", "train", *QUICK, "--data", "mine.npz", "--run", "out")
    gc.collect()  # a file left open is found here and not in a later test


@pytest.fixture
def finished(tmp_path, uninterrupted):
    """A copy of a finished run."""
    return shutil.copytree(uninterrupted["batch"].folder, tmp_path / "done")


def test_a_folder_that_holds_a_run(refused, finished):
    refused("run folder done: it holds a run already; --resume done", "train", *QUICK, "--run", "done")


@pytest.mark.parametrize("folder", ["file", "file/run", "/dev/null/run", "n" * 300])
def test_a_folder_that_cannot_be_written(folder, refused, tmp_path):
    (tmp_path / "file").write_text("no folder")
    refused(f"run folder {folder}: cannot write there", "train", *QUICK, "--run", folder)


def test_an_engine_that_counts_nothing_says_so_before_there_is_a_folder(wage_neuro, tmp_path):
    pytest.importorskip("brian2", reason="brian2 is an optional extra")
    ended = wage_neuro(
        "train", "--network", "4FC", "--data", "digits", "--engine", "brian2", "--watch", 2, "--run", "out"
    )
    assert (ended.code, ended.err) == (
        1,
        "wage-neuro: watch every=2: engine 'brian2' is none that counts activity\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_network_too_long_for_a_folder_s_name(wage_neuro, tmp_path):
    """Folder names end at 255 bytes; the default name holds the network's text."""
    (tmp_path / "runs").mkdir()
    ended = wage_neuro("train", *QUICK, "--train-images", 32, "--network", "-".join(["4FC"] * 70))
    assert ended.code == 0 or ended.err.startswith("wage-neuro: ")


@pytest.mark.parametrize("path", ["file/table.json", "no/such/folder/table.json", "folder"])
def test_a_record_that_cannot_be_written_is_refused_before_training(path, wage_neuro, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(Run, "fit", lambda *_: pytest.fail("it trained first"))
    ended = wage_neuro("train", *QUICK, "--run", "out", "--record", path)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert re.match(f"wage-neuro: .*{path}", ended.err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        *(
            "--eta 8",
            "--data digits",
            "--network lenet",
            "--bits 2888",
            "--seed 0",
            "--batch 32",
            "--shift held",
        ),
        *("--hold 5", "--update wide", "--stored-range paper", "--validation 5", "--train-images 400"),
        "--run out",
    ],
)
def test_a_resumed_run_takes_no_other_settings(words, refused, finished):
    refused(f"{words.split()[0]} with --resume: ", "train", "--resume", finished, *words.split())


def test_a_resumed_run_takes_no_other_lanes_than_its_shift_allows(refused, finished):
    refused(
        "--lanes 8: engine 'numpy' has no such option",
        "train",
        "--resume",
        finished,
        "--engine",
        "numpy",
        "--lanes",
        8,
    )
    refused("--engine 'gpu'", "train", "--resume", finished, "--engine", "gpu")
    refused("--epochs 0: want 1 or more", "train", "--resume", finished, "--epochs", 0)


RESUME = ("train", "--engine", "numpy", "--resume")


def test_a_run_that_is_not_there(refused):
    refused(r"nowhere.*: no such checkpoint", *RESUME, "nowhere")
    refused(r"nowhere: no such checkpoint", "evaluate", "nowhere")


def test_a_checkpoint_that_is_none(refused, finished, helpers):
    file = finished / "checkpoint.npz"
    whole = file.read_bytes()

    def spoilt(message, change):
        file.write_bytes(whole)
        helpers.tamper(file, change)
        refused(message, *RESUME, "done")

    spoilt("checkpoint format 7; this version reads 1", lambda header: header.update(format=7))
    spoilt(
        "holds a run of other settings: specs is ",
        lambda header: header["extra"]["config"].update(network="20FC"),
    )
    spoilt("the data of 'digits' has changed", lambda header: header["extra"].update(data_sha256="?"))
    spoilt("not of a training run", lambda header: header["extra"].clear())
    file.write_bytes(whole[:-100])
    refused("not a whole wage-neuro checkpoint", *RESUME, "done")
    refused("not a whole wage-neuro checkpoint", "evaluate", "done")
    gc.collect()  # a file left open is found here and not in a later test


def test_evaluate_on_data_of_another_form(refused, finished, tmp_path, sparse_images):
    for shape, classes, message in (
        ((9, 9), 10, r"this network takes \(8, 8, 1\)"),
        ((8, 8), 11, "outputs 0..9"),
    ):
        images, labels = sparse_images(200, shape, classes)
        np.savez(tmp_path / "mine.npz", images=images, labels=labels)
        refused(message, "evaluate", "done", "--data", "mine.npz")


# --- Ctrl-C ------------------------------------------------------------------------------------------

SLOW = Config(data="digits", network="32C3-MP2-64C3-256FC", epochs=3, seed=2, rules=Rules(batch=32))


@pytest.fixture(scope="module")
def slow_run(tmp_path_factory):
    """The run that nothing interrupts."""
    run = Run.start(SLOW, tmp_path_factory.mktemp("slow"))
    with run.engine(FASTEST) as engine:
        run.fit(engine)
    return run


def session_of(leader: int) -> dict[int, Path]:
    """Living processes of a session, by their id."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            found[int(entry.name)] = entry
    return found


def shared_memory_of(leader: int) -> set[Path]:
    """Pieces of /dev/shm that the processes of a session have mapped."""
    found = set()
    for entry in session_of(leader).values():
        try:
            found |= set(map(Path, re.findall(r"/dev/shm/\S+", (entry / "maps").read_text())))
        except OSError:
            continue
    return {path for path in found if path.exists()}


def wait_until(true, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(true())


CASES = [
    # a terminal sends Ctrl-C to the whole group, a batch system SIGTERM
    ("numpy", "SIGINT", os.killpg),
    ("numpy", "SIGTERM", os.kill),
    ("lava", "SIGINT", os.killpg),
    ("lava", "SIGTERM", os.kill),
    ("lava", "SIGTERM", os.killpg),
    ("lava", "SIGKILL", os.kill),
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("engine", "name", "send"), [case for case in CASES if case[0] in ENGINES])
def test_a_signal_from_outside(
    engine, name, send, tmp_path, slow_run, wage_neuro, assert_same_state, helpers
):
    """It ends with a checkpoint, but for SIGKILL, and leaves nothing behind."""
    words = f"train --data digits --network {SLOW.network} --batch 32 --epochs 3 --seed 2 --run out"
    main = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", *words.split(), "--engine", engine],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        file = tmp_path / "out" / "checkpoint.npz"
        assert wait_until(lambda: file.exists() or main.poll() is not None, 60)
        assert main.poll() is None, main.communicate()
        assert (len(session_of(main.pid)) > 1) == (engine == "lava")
        assert not shared_memory_of(main.pid), "a name that SIGKILL would leave"
        send(main.pid, signal.Signals[name])
        out, err = main.communicate(timeout=60)
        assert wait_until(lambda: not session_of(main.pid), 5), session_of(main.pid)
    finally:
        for pid in session_of(main.pid):  # our own children, of a test that failed
            os.kill(pid, signal.SIGKILL)
    if name == "SIGKILL":
        assert main.returncode == -signal.SIGKILL
    else:
        assert (main.returncode, err) == (STOPPED, "")
        assert re.fullmatch(
            r"stopped in epoch [123]; go on with: wage-neuro train --resume out", out.splitlines()[-1]
        )

    step = checkpoint.load(file).state.step
    assert 0 < step < slow_run.saved.state.step
    ended = wage_neuro("train", "--resume", "out", "--engine", FASTEST)
    assert ended.code == 0
    assert_same_state(checkpoint.load(file).state, slow_run.saved.state)
    rows = json.loads((tmp_path / "out" / "record.json").read_text())["curve"]
    assert helpers.without_seconds(rows) == helpers.without_seconds(slow_run.progress.curve)


def test_softmax_from_windows(wage_neuro, tmp_path, sparse_images):
    """Trained on windows, an image's middle is what the network sees later; names come from the data."""
    words = ("train", "--network", "24FC-FCU", "--data", "digits", "--engine", "numpy", "--epochs", 6)
    ended = wage_neuro(*words, "--loss", "softmax", "--augment", "window7", "--batch", 32, "--run", "out")
    assert ended.code == 0
    assert "F-24FC-10FCU" in ended.out
    assert wage_neuro("evaluate", "out").last == ended.last
    refusal = wage_neuro(*words, "--run", "other")
    message = "an unquantized last layer (10FCU) has 'softmax' only; --loss, not given, is 'sse'"
    assert (refusal.code, refusal.err) == (1, f"wage-neuro: {message}\n")
    assert not (tmp_path / "other").exists()


def test_a_resumed_run_keeps_its_settings(wage_neuro):
    ended = wage_neuro("train", "--resume", "nowhere", "--eta", "2")
    line = "wage-neuro: --eta with --resume: a resumed run keeps its settings; only --epochs may grow\n"
    assert (ended.code, ended.err) == (1, line)


# --- words -------------------------------------------------------------------------------------------


def test_what_is_given_in_the_place_of_a_run(refused, finished, tmp_path, sparse_images):
    images, labels = sparse_images(60, (8, 8), 3)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    refused(
        "^wage-neuro: mnist: no such checkpoint; it is a data set, want the folder of a run$",
        "evaluate",
        "mnist",
    )
    refused(r"mine\.npz: not a wage-neuro checkpoint, it holds images, labels$", "evaluate", "mine.npz")
    refused(r"^wage-neuro: mine\.npz: a file; want the folder that it is in, \.$", *RESUME, "mine.npz")
    file = "done/checkpoint.npz"
    refused(f"^wage-neuro: {file}: a file; want the folder that it is in, done$", *RESUME, file)
    refused(r"^wage-neuro: checkpoint\.npz: no such checkpoint; want one of done$", *RESUME, ".")
    refused("digits: no such checkpoint; it is a data set", *RESUME, "digits")
    (tmp_path / "done/notes").write_text("{}")
    refused("; want the folder of a run, or its checkpoint.npz$", "evaluate", "done/notes")


def test_a_resumed_run_goes_on_with_its_engine(wage_neuro, tmp_path, helpers, need_kernels, monkeypatch):
    need_kernels()
    assert wage_neuro("train", *QUICK, "--run", "out").code == 0
    for epochs, words, engine in (
        (2, (), "numpy"),
        (3, ("--engine", "compiled"), "compiled"),
        (4, (), "compiled"),
    ):
        ended = wage_neuro("train", "--resume", "out", "--epochs", epochs, *words)
        assert (ended.code, ended.err) == (0, "")
        assert f", engine {engine}\n" in ended.out
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "none.so")
    ended = wage_neuro("train", "--resume", "out", "--epochs", 5)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "none.so is not there" in ended.err
    assert "; the run was begun with it, --engine " in ended.err
    helpers.tamper(tmp_path / "out" / "checkpoint.npz", lambda h: h["extra"].update(simulator={"engine": 3}))
    ended = wage_neuro("train", "--resume", "out", "--epochs", 5)
    assert ended.err.endswith("simulator.engine=3: want a text\n")


def test_a_finished_run_says_that_it_is(wage_neuro, finished, tmp_path):
    before = checkpoint.load(finished / "checkpoint.npz")
    ended = wage_neuro(*RESUME, "done", "--record", "table.json")
    epochs = before.extra["config"]["epochs"]
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-2] == (
        f"this run is finished, it has its {epochs} epochs; go on with: wage-neuro train --resume done"
        f" --epochs {epochs + 1}"
    )
    assert re.fullmatch(ACCURACY.replace("test", "(?:test|validation)"), ended.last)
    assert json.loads((tmp_path / "table.json").read_text())["curve"] == before.extra["progress"]["curve"]


def test_data_that_may_mean_something_else_is_one_line_of_warning(wage_neuro, tmp_path, sparse_images):
    images, labels = sparse_images(80, (6, 7), 3)
    np.savez(tmp_path / "mine.npz", images=images // 32, labels=labels + 1)
    ended = wage_neuro("train", *QUICK, "--data", "mine.npz", "--run", "out", "--network", "16FC-4FC")
    lines = ended.err.splitlines()
    assert ended.code == 0
    assert len(lines) == 3
    assert all(line.startswith("wage-neuro: warning: ") for line in lines)
    assert "warning: mine.npz: largest grey level 7 of 255: scale the images" in lines[0]
    assert "warning: mine.npz: labels 1..3: no image has label 0" in lines[1]
    assert lines[2] == (
        "wage-neuro: warning: --network '16FC-4FC': ends with 4FC as wide as the 4 classes, and the output"
        " layer is added after it; want '16FC'"
    )
    assert "mine.npz: 64 training and 16 test images (6, 7, 1), from mine.npz" in ended.out


@pytest.mark.parametrize(("option", "signed"), [("--signed", True), ("--unsigned", False), (None, True)])
def test_the_sign_of_the_input_is_kept(option, signed, wage_neuro, tmp_path, sparse_images):
    images, labels = sparse_images(80, (6, 7, 3), 3)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    words = ("train", *QUICK, "--data", "mine.npz", "--run", "out", *([option] if option else []))
    assert wage_neuro(*words).code == 0
    saved = checkpoint.load(tmp_path / "out" / "checkpoint.npz")
    assert (saved.network.signed_input, saved.extra["config"]["signed"]) == (signed, signed)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels, signed=not signed)
    assert wage_neuro("train", "--resume", "out", "--epochs", 2, "--engine", "numpy").code == 0
    assert checkpoint.load(tmp_path / "out" / "checkpoint.npz").network == saved.network


def test_a_run_of_before_the_sign_was_kept_goes_on(wage_neuro, tmp_path, sparse_images, helpers):
    images, labels = sparse_images(80, (6, 7, 3), 3)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    assert wage_neuro("train", *QUICK, "--data", "mine.npz", "--run", "out", "--unsigned").code == 0
    helpers.tamper(tmp_path / "out" / "checkpoint.npz", lambda h: h["extra"]["config"].__delitem__("signed"))
    assert wage_neuro("train", "--resume", "out", "--epochs", 2, "--engine", "numpy").code == 0
    saved = checkpoint.load(tmp_path / "out" / "checkpoint.npz")
    assert (saved.network.signed_input, saved.state.step) == (False, 4)


def test_no_memory_left_is_one_line(wage_neuro, monkeypatch):
    def no_memory(*_, **__):
        return np.empty(1 << 62, np.uint8)

    monkeypatch.setattr(Run, "start", no_memory)
    ended = wage_neuro("train", *QUICK, "--run", "out")
    assert ended.code == 1
    assert re.fullmatch(
        r"wage-neuro: not enough memory \(Unable to allocate 4.00 EiB .*\); want .*\n", ended.err
    )


def test_what_takes_longer_than_a_moment_says_so(wage_neuro, monkeypatch):
    def slow(*_, **__):
        time.sleep(0.3)
        raise SettingError("no")

    monkeypatch.setattr(command_line, "PATIENCE_S", 0.1)
    monkeypatch.setattr(Run, "start", slow)
    ended = wage_neuro("train", *QUICK, "--run", "out")
    assert (ended.out, ended.err) == ("reading digits ...\n", "wage-neuro: no\n")


def test_two_runs_that_start_together_have_a_folder_each(tmp_path):
    words = [sys.executable, "-m", "experiments.cli", "train", *map(str, QUICK), "--seed"]
    runs = [
        subprocess.Popen(
            [*words, "5", "--eta", eta], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for eta in ("8", "1")
    ]  # fmt: skip
    for run in runs:
        assert (run.communicate(timeout=120)[1], run.returncode) == ("", 0)
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/record.json")]
    assert sorted(record["config"]["eta"] for record in records) == ["1", "8"]


def test_a_run_in_use_is_refused_by_its_owner_s_name(refused, finished):
    with run_folder.Lock(finished):
        refused(
            f"run folder done: in use by process {os.getpid()} on .*; wait, or",
            *RESUME,
            "done",
            "--epochs",
            9,
        )


def test_a_run_goes_on_with_its_data_where_they_are_now(wage_neuro, refused, tmp_path, sparse_images):
    images, labels = sparse_images(80, (6, 7), 3)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    ended = wage_neuro("train", *QUICK, "--data", "mine.npz", "--run", "out")
    for name, content in (("same", images), ("other", images[::-1])):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "mine.npz", images=content, labels=labels)
    (tmp_path / "mine.npz").unlink()
    line = (
        r"^wage-neuro: mine\.npz: no such file; want its path, or the folder that it is in now as --data-di"
    )
    refused(line, *RESUME, "out", "--epochs", 2)
    refused("the data of 'mine.npz' has changed since", *RESUME, "out", "--epochs", 2, "--data-dir", "other")
    assert wage_neuro("evaluate", "out", "--data-dir", "same").last == ended.last
    ended = wage_neuro(*RESUME, "out", "--epochs", 2, "--data-dir", "same")
    assert (ended.code, ended.err) == (0, "")
    assert "images (6, 7, 1), from same/mine.npz" in ended.out


# --- Ctrl-C before there is a run --------------------------------------------------------------------

ENTRY = "import sys; from experiments import entry; sys.argv = ['wage-neuro', *sys.argv[1:]]; entry.main()"


def interrupted(tmp_path, words, prepare, times):
    """How a command ends that gets Ctrl-C `times` times from within, at a place that `prepare` picks."""
    code = (
        f"import os, signal; kill = lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range({times})]\n"
    )
    code += f"signal.signal(signal.SIGINT, signal.default_int_handler)\n{prepare}\n{ENTRY}"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


IMPORTING = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}: kill()
sys.meta_path.insert(0, Finder())
"""
READING = """
from experiments import datasets
def load(*_, **__):
    try: kill()
    finally:
        if {again}: kill()
datasets.load = load
"""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["experiments.cli", "numpy", "rich.table", "experiments.datasets.cifar"])
def test_ctrl_c_during_imports_ends_in_one_line(name, times, tmp_path):
    ended = interrupted(tmp_path, ("train", *QUICK), IMPORTING.format(name=name), times)
    assert (ended.returncode, ended.stdout, ended.stderr) == (STOPPED, "", "wage-neuro: stopped\n")


@pytest.mark.parametrize(("times", "again"), [(1, False), (2, False), (1, True)])
def test_ctrl_c_before_a_run_begins_ends_in_one_line(times, again, tmp_path):
    ended = interrupted(tmp_path, ("train", *QUICK), READING.format(again=again), times)
    assert (ended.returncode, ended.stdout, ended.stderr) == (STOPPED, "", "wage-neuro: stopped\n")
    if (times, again) == (1, False):
        assert not (tmp_path / "runs").exists()
