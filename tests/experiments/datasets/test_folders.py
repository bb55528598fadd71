"""Omniglot, CORe50 and NeuroBench's keywords, of small files of their true forms; the data is not here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from experiments import datasets
from experiments.continual.study import Config, Run, open_tasks
from experiments.datasets import folders, keywords
from wage_neuro.errors import DataError, SettingError


def draw(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


# --- Omniglot ----------------------------------------------------------------------------------------


@pytest.fixture
def omniglot(tmp_path):
    """Two alphabets of two characters and one of one; a character's stroke is at its own place."""
    number = 0
    for part, alphabets in (("images_background", ("A", "B")), ("images_evaluation", ("C",))):
        for alphabet in alphabets:
            for character in ("character01", "character02")[: 2 if alphabet != "C" else 1]:
                for drawer in range(1, 21):
                    paper = np.full((105, 105), True)
                    paper[10 * number : 10 * number + 8, drawer : drawer + 8] = False
                    draw(
                        tmp_path / "omniglot" / part / alphabet / character / f"{number:04}_{drawer:02}.png",
                        paper,
                    )
                number += 1
    return tmp_path


def test_omniglot(omniglot):
    data = datasets.load("omniglot", omniglot)
    assert (data.classes, data.signed, data.train_images.shape) == (5, False, (75, 28, 28, 1))
    assert data.names == ("A/character01", "A/character02", "B/character01", "B/character02", "C/character01")
    assert np.bincount(data.test_labels).tolist() == [5] * 5
    rows = data.train_images[..., 0].astype(int).sum(axis=2)  # strokes are light, paper is black
    highest = [int(rows[data.train_labels == i].sum(axis=0).argmax()) for i in range(5)]
    assert highest == sorted(set(highest))
    assert data.train_images.max() > 200


def test_a_base_of_omniglot_and_tasks_of_one_shot(omniglot):
    config = Config(stream="split-omniglot", base=3, tasks=3, shots=1, method="naive", memory=0)
    tasks = open_tasks(config, omniglot)
    assert [(task.classes, len(task.train), len(task.test)) for task in tasks] == [
        ((0, 1, 2), 45, 15),
        ((3,), 1, 5),
        ((4,), 1, 5),
    ]


def test_what_is_no_omniglot(omniglot):
    base = omniglot / "omniglot"
    (strange := base / "images_background/A/character01/one.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"one\.png: want a name such as NUMBER_DRAWER\.png$"):
        datasets.load("omniglot", omniglot)
    strange.rename(strange.with_name("0009_01.png"))
    with pytest.raises(DataError, match=r"0009_01\.png: not a readable image"):
        datasets.load("omniglot", omniglot)
    (base / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no ALPHABET/CHARACTER folders in it$"):
        folders.read_omniglot(base / "empty", base / "images_evaluation")
    with pytest.raises(
        DataError, match=r"^omniglot: images_background not found; put omniglot/images_background,"
    ):
        datasets.load("omniglot", omniglot / "omniglot" / "empty")


# --- CORe50 ------------------------------------------------------------------------------------------


@pytest.fixture
def core50(tmp_path):
    for session in (1, 2, 3, 10):
        for thing in (1, 2, 50):
            for frame in range(2):
                colour = np.full((32, 32, 3), 5 * session, np.uint8)
                colour[..., 1] = thing
                name = f"C_{session:02}_{thing:02}_{frame:03}.png"
                draw(tmp_path / "core50_32x32" / f"s{session}" / f"o{thing}" / name, colour)
    return tmp_path


def test_core50(core50):
    data = datasets.load("core50", core50)
    assert (data.classes, data.signed, data.train_images.shape) == (50, True, (12, 32, 32, 3))
    images = np.asarray(data.train_images)
    assert np.array_equal(images[:, 0, 0, 1], data.train_labels + 1)
    assert set(images[:, 0, 0, 0]) == {5, 10}
    assert set(np.asarray(data.test_images)[:, 0, 0, 0]) == {15, 50}
    assert len(data.checksum) == 64


def test_what_is_no_core50(core50):
    folder = core50 / "core50_32x32"
    (folder / "s1/o1/C_01_01_000.png").rename(folder / "s1/o1/kept.png")  # a frame's own name says nothing
    assert len(datasets.load("core50", core50).train_labels) == 12
    (folder / "s1/o2").rename(folder / "s1/o51")
    with pytest.raises(DataError, match=r"object 51: want 1\.\.50$"):
        datasets.load("core50", core50)
    (folder / "s1/o51").rename(folder / "s1/other")
    with pytest.raises(DataError, match=r"other: want a name such as o12$"):
        datasets.load("core50", core50)
    with pytest.raises(
        DataError, match=r"s3: want frames sS/oO/\*\.png of sessions that test, s3, s7, s10, and of"
    ):
        folders.read_core50(folder / "s3")


def test_sessions_of_core50_are_tasks(core50):
    config = Config(
        stream="sessions-core50", scenario="domain", network="8FC", memory=4, task_images=3, probes=0
    )
    tasks = open_tasks(config, core50)
    assert [task.name for task in tasks] == ["s1", "s2"]
    for task, green in zip(tasks, (5, 10), strict=True):
        images, labels = task.training_samples(np.arange(3))
        assert set(images[:, 0, 0, 0]) == {green}
        assert np.array_equal(images[:, 0, 0, 1], labels + 1)
        assert set(task.test_samples()[0][:, 0, 0, 0]) == {15, 50}
    by_path = open_tasks(replace(config, stream=f"sessions-{core50 / 'core50_32x32'}"))
    assert np.array_equal(by_path[1].training_images(np.arange(3)), tasks[1].training_images(np.arange(3)))
    run = Run.start(config, core50 / "run", core50)
    assert (run.stream.outputs, len(run.stream)) == (50, 6)
    with pytest.raises(SettingError, match="scenario 'class' with 'sessions-core50': each session has all"):
        open_tasks(replace(config, scenario="class"), core50)
    with pytest.raises(SettingError, match="tasks=3: a stream of 2 data sets or sessions has 2"):
        open_tasks(replace(config, tasks=3), core50)


# --- OpenLORIS-Object --------------------------------------------------------------------------------


@pytest.fixture
def openloris(tmp_path):
    """Ten tasks of a factor, two objects; a task's light is its own, and one object is not in the second."""
    for task in range(1, 11):
        for part, frames in (("train", 2), ("test", 1)):
            for number, thing in enumerate(("bottle_01", "cup_02")):
                colour = np.full((64, 48, 3), 10 * task, np.uint8)
                colour[..., 1] = 100 * number
                for frame in range(frames if (task, number) != (2, 1) else 0):
                    draw(tmp_path / f"illumination/{part}/task{task}/{thing}/{frame}.jpg", colour)
    return tmp_path / "illumination"


def test_tasks_of_openloris(openloris):
    tasks = open_tasks(Config(stream=f"sessions-{openloris}", scenario="domain", network="8FC"))
    assert [task.name for task in tasks] == [f"task{i}" for i in range(1, 11)]  # not in the order of words
    for i, task in enumerate(tasks, start=1):
        number = 2 if i == 2 else 4
        images, labels = task.training_samples(np.arange(number))
        assert images.shape == (number, 50, 50, 3)
        assert abs(images[:, 9, 9, 0].astype(int) - 10 * i).max() <= 2  # JPEG
        assert labels.tolist() == (images[:, 9, 9, 1] > 50).astype(int).tolist()
        assert len(task.test) == number // 2
    assert tasks[0].data.called(1) == "1 cup_02"
    assert tasks[0].data.checksum != tasks[1].data.checksum


def test_what_is_no_openloris(openloris, tmp_path):
    for path in (openloris / "test/task3").glob("*/*"):
        path.unlink()
    with pytest.raises(DataError, match=r"test/task3: no OBJECT/\*\.jpg in it$"):
        folders.read_sessions(openloris)
    (openloris / "train/task3").rename(openloris / "train/tasks")
    with pytest.raises(DataError, match=r"tasks: want a name such as task3$"):
        folders.read_sessions(openloris)
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"empty: no train/taskT folders in it$"):
        folders.read_sessions(tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere: want frames sS/oO/\*\.png of sessions"):
        open_tasks(Config(stream="sessions-nowhere", scenario="domain", network="8FC"))


# --- keywords ----------------------------------------------------------------------------------------


def tone(path, hertz, rate=keywords.RATE, seconds=1.0):
    t = np.arange(int(rate * seconds)) / rate
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, (8000 * np.sin(2 * np.pi * hertz * t)).astype(np.int16))


@pytest.fixture
def mswc(tmp_path, monkeypatch):
    """Two base words and two words of each of two languages; the files are named .opus, as in the lists."""
    monkeypatch.setattr(keywords, "LANGUAGES", ("fa", "eo"))
    monkeypatch.setattr(keywords, "SUPPORT", 3)
    folder, hertz = tmp_path / "MSWC", 300

    def listed(path, words, clips, language):
        nonlocal hertz
        rows = ["LINK,WORD,LANGUAGE"]
        for word in words:
            for i in range(clips):
                rows.append(f"{path.stem}_{word}_{i}.opus,{word},{language}")
                tone(
                    folder / language / "clips" / f"{path.stem}_{word}_{i}.wav", hertz, seconds=1 + i % 2 / 2
                )
            hertz += 400
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    listed(folder / "base_train.csv", ["très", "bien"], 4, "fr")
    listed(folder / "base_test.csv", ["très", "bien"], 2, "fr")
    for language in ("fa", "eo"):
        listed(folder / language / "evaluation.csv", [f"{language}1", f"{language}2"], 5, language)
    return tmp_path


def test_keywords(mswc):
    data = datasets.load("mswc", mswc)
    assert data.names == ("très", "bien", "fa1", "fa2", "eo1", "eo2")
    assert (data.classes, data.signed, data.train_images.shape[1:]) == (6, False, (49, 32, 1))
    assert np.bincount(data.train_labels).tolist() == [4, 4, 3, 3, 3, 3]
    assert np.bincount(data.test_labels).tolist() == [2, 2, 2, 2, 2, 2]
    loudest = data.train_images[:, 20, :, 0].argmax(axis=1)
    by_word = [set(loudest[data.train_labels == i]) for i in (2, 3, 4, 5)]
    assert [len(bands) for bands in by_word] == [1] * 4  # a tone a word, one band
    assert sorted(map(min, by_word)) == list(map(min, by_word))  # the higher, the higher


def test_neurobench_task_of_keywords(mswc):
    config = Config(stream="split-mswc", base=2, tasks=3, shots=2, method="naive", memory=0)
    tasks = open_tasks(config, mswc)
    assert [(task.classes, len(task.train), len(task.test)) for task in tasks] == [
        ((0, 1), 8, 4),
        ((2, 3), 4, 4),
        ((4, 5), 4, 4),
    ]


def test_a_spectrogram_by_hand():
    """Twice the amplitude is an octave: 255 / 12 grey levels, where a band is loud."""
    t = np.arange(keywords.RATE) / keywords.RATE
    quiet, loud = (
        keywords.spectrogram((k * np.sin(2 * np.pi * 1000 * t)).astype(np.int16))[10, :, 0].astype(int)
        for k in (4000, 8000)
    )
    band = loud.argmax()
    assert quiet.argmax() == band
    assert abs(loud[band] - quiet[band] - 255 / keywords.LOUDEST) <= 1
    assert keywords._mel().sum(axis=0).max() == pytest.approx(1)


def test_what_are_no_keywords(mswc):
    folder = mswc / "MSWC"
    (clip := folder / "fa/clips/evaluation_fa1_0.wav").unlink()
    with pytest.raises(DataError, match=r"evaluation_fa1_0\.wav: not found; want the 16 kHz wav files$"):
        datasets.load("mswc", mswc)
    tone(clip, 300, rate=48_000)
    with pytest.raises(
        DataError, match=r"int16 \(48000,\) at 48000 Hz: want int16 of one channel at 16000 Hz$"
    ):
        datasets.load("mswc", mswc)
    clip.write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"evaluation_fa1_0\.wav: not a readable wav file"):
        datasets.load("mswc", mswc)
    (folder / "base_test.csv").write_text("a.opus,new,fr\n")
    with pytest.raises(DataError, match=r"base_test\.csv has 'new', base_train\.csv has not$"):
        datasets.load("mswc", mswc)
    (folder / "base_test.csv").write_text("a.opus,new\n")
    with pytest.raises(DataError, match=r"base_test\.csv: row 1 has 2 fields: want file,word,language$"):
        datasets.load("mswc", mswc)
    (folder / "base_test.csv").write_text("LINK,WORD,LANGUAGE\n")
    with pytest.raises(DataError, match=r"base_test\.csv: no clips in it$"):
        datasets.load("mswc", mswc)
    (folder / "base_test.csv").unlink()
    with pytest.raises(DataError, match=r"base_test\.csv: not a readable list of clips"):
        datasets.load("mswc", mswc)


# --- events ------------------------------------------------------------------------------------------


def test_a_stream_of_what_an_event_camera_sees():
    (first, *_) = open_tasks(Config(stream="split-events-digits", method="naive", memory=0))
    assert first.data.train_images.shape[1:] == (8, 8, 2)
    assert (first.data.name, first.classes) == ("events-digits", (0, 1))
    plain = datasets.load("digits")
    assert np.array_equal(first.data.train_labels, plain.train_labels)
    five = datasets.load("events-digits:5-9")
    assert five.classes == 5
    assert len(five.train_labels) == (plain.train_labels >= 5).sum()
    assert datasets.is_name("events-digits:5-9")
    assert not datasets.is_name("events-runs/mine")


def test_grey_levels_of_events_are_their_codes():
    from experiments.datasets import events
    from wage_neuro import Network

    data = datasets.load("digits").subset(30, 10)
    seen = events.seen_by_saccades(data.train_images, data.train_labels)
    codes = events.time_surfaces(seen, (8, 8), events.HALF_LIFE_US)
    made = events.surfaces_of(data)
    assert np.array_equal(Network.parse("F", (8, 8, 2), 10).encode(made.train_images), codes)
    assert codes.any()


def test_colours_have_no_events(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "c.npz", images=images, labels=np.arange(6) % 2)
    with pytest.raises(DataError, match=r"^events-c: images of 3 channels: want grey ones$"):
        datasets.load(f"events-{tmp_path / 'c.npz'}")


# --- CIFAR-100 ---------------------------------------------------------------------------------------


def test_a_hundred_classes_of_an_npz(tmp_path):
    """CIFAR-100 as an .npz: the second half of the classes, ten tasks of five."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (300, 32, 32, 3)).astype(np.uint8), np.arange(300) % 100
    np.savez(
        tmp_path / "cifar-100.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:100],
        test_labels=labels[:100],
    )
    stream = f"split-{tmp_path / 'cifar-100.npz'}:50-99"
    tasks = open_tasks(Config(stream=stream, tasks=10, method="naive", memory=0))
    assert [task.classes for task in tasks] == [tuple(range(i, i + 5)) for i in range(0, 50, 5)]
    assert tasks[0].data.signed
    samples, outputs = tasks[9].training_samples(np.arange(15))
    place = int(tasks[9].train[0])
    kept = np.flatnonzero(labels >= 50)[place]
    assert np.array_equal(samples[0], images[kept])
    assert outputs[0] == labels[kept] - 50
