"""netx: a reader that shares no code runs the file as lava-dl would; where lava-dl is, lava-dl does."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import h5py
import numpy as np
import pytest
from scipy import signal

from mappings.formats import netx
from mappings.formats.inference import Inference
from wage_neuro import Network, Rules, initial_state, predict
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import NetworkError

NETWORKS = {
    "dense": ("F-16FC-9FC-5FC", (7, 6, 2), "2888", False),
    "features": ("20FC-4FC", (13,), "2688", False),
    "strides": ("5C5S2-6C4S3-F-7FC-4FC", (11, 14, 3), "2888", True),
    "valid": ("4C3V-5C2V-F-3FC", (8, 7, 2), "3588", False),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    text, shape, bits, signed = NETWORKS[request.param]
    return Network.parse(text, shape, bits=bits, signed_input=signed)


def run(path: Path, messages: np.ndarray) -> np.ndarray:
    """Answer to one image, (channels, height, width) or (features,) messages, from rest.

    As netx/hdf5.py, netx/utils.py of lava-dl 0.6.0 and lava.proc.sdn of lava-nc 0.10.0 have it: weights of a
    conv are flipped and convolved, a SigmaDelta cuts below 0 and drops 6 bits, its bias counts 2**12.
    """
    with h5py.File(path, "r") as file:
        blocks = [file["layer"][str(i)] for i in range(len(file["layer"]))]
        assert blocks[0]["type"][()] == b"input"
        assert blocks[0]["neuron/type"][()] == b"SDNN"
        for block in blocks[1:]:
            kind = block["type"][()].decode("ascii")
            if kind == "flatten":
                messages = messages.reshape(-1)
                continue
            weight = block["weight"][()].astype(int)
            a = weight @ messages if kind == "dense" else convolve(block, weight, messages)
            assert a.shape == tuple(block["shape"][()])
            assert block["neuron/type"][()] == b"SDNN"
            assert block["neuron/vThMant"][()] == 0  # sends every change
            if "sigma_output" in block["neuron"]:
                messages = a
            else:
                bias = block["bias"][()].reshape(-1, *[1] * (a.ndim - 1)) << 12
                messages = np.maximum(a + bias, 0) >> 6
    return messages


def convolve(block: h5py.Group, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    assert (block["dilation"][()], block["groups"][()]) == (1, 1)
    (top, left), stride = block["padding"][()], block["stride"][()]
    padded = np.pad(x, ((0, 0), (top, top), (left, left)))
    out = [
        sum(signal.correlate2d(p, k, "valid") for p, k in zip(padded, kernels, strict=True))
        for kernels in weight
    ]
    return np.stack(out)[:, ::stride, ::stride]


def messages_of(network: Network, image: np.ndarray) -> np.ndarray:
    """An image as netx gets it: codes times 64, channels first."""
    codes = network.encode(image[None])[0].astype(int) * 64
    codes = codes.transpose(2, 0, 1) if codes.ndim == 3 else codes
    return codes.reshape(-1) if str(network).startswith("F") else codes


def unrounded(inference: Inference, image: np.ndarray) -> np.ndarray:
    """64 Z of the last layer, when activations keep 6 bits after the point: the network as it should be."""
    network = inference.network
    x = network.encode(image[None])[0].astype(int) * 64
    for layer, V in zip(network.layers, inference.V, strict=True):
        x = x.reshape(layer.in_shape)
        if len(layer.in_shape) == 1:
            z = x @ V.astype(int)
        else:
            top, bottom, left, right = layer.padding
            padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))
            size, stride = V.shape[:2], layer.spec.stride
            views = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(0, 1))[::stride, ::stride]
            z = np.einsum("hwcij,ijco->hwo", views, V.astype(int))
        if layer.is_last:
            return z
        x = np.clip(z >> layer.z_shift, 0, layer.bits.activation_max * 64)
    raise AssertionError


def test_the_blocks_compute_the_network(network, inference, images_of, tmp_path):
    """Saturation, paddings and orders are exact; activations keep netx's 6 bits."""
    netx.write(tmp_path / "net.net", inference)
    for image in images_of(network, 12):
        answer = run(tmp_path / "net.net", messages_of(network, image))
        assert np.array_equal(answer, unrounded(inference, image))


def test_round_trip(network, inference, trained, images_of, tmp_path):
    netx.write(tmp_path / "net.net", inference)
    back = netx.read(tmp_path / "net.net").checkpoint()
    x = network.encode(images_of(network))
    assert np.array_equal(predict(back.network, back.state, x), predict(network, trained(network).state, x))


def test_the_classes_are_the_networks(tmp_path):
    """On digits, a trained network and netx's blocks disagree on few images, if any."""
    from experiments import datasets
    from wage_neuro import NumpyEngine

    data = datasets.load("digits")
    network = Network.parse("64FC", data.train_images.shape[1:], classes=10)
    with NumpyEngine(network, Rules(batch=32)) as engine:
        for _ in range(10):
            engine.train(data.train_images[:1408], data.train_labels[:1408], 2)
        logits = engine.predict(data.test_images)
        netx.write(tmp_path / "net.net", Inference.of(Checkpoint(network, Rules(), engine.state)))
    answers = [run(tmp_path / "net.net", messages_of(network, image)) for image in data.test_images]
    assert (logits.argmax(axis=1) == data.test_labels).mean() > 0.9
    assert (np.argmax(answers, axis=1) == logits.argmax(axis=1)).mean() > 0.98


@pytest.fixture(scope="module")
def hdf5():
    """netx.hdf5 of lava-dl: installed, or in its unpacked wheel, $LAVA_DL.

    Importing netx takes PyTorch, which this part of it does not use: where it is missing, a stand-in does.
    """
    names = [*sys.modules]
    root = os.environ.get("LAVA_DL")
    if root:
        for name, path in (("lava.lib", "lava/lib"), ("lava.lib.dl", "lava/lib/dl")):
            package = types.ModuleType(name)
            package.__path__ = [str(Path(root) / path)]
            sys.modules[name] = package
    if not importlib.util.find_spec("torch"):
        for name in (
            "torch",
            "lava.lib.dl.slayer",
            "lava.lib.dl.slayer.neuron",
            "lava.lib.dl.slayer.neuron.rf",
        ):
            sys.modules[name] = MagicMock()
    try:
        yield pytest.importorskip("lava.lib.dl.netx.hdf5", reason="lava-dl is not installed, nor in $LAVA_DL")
    finally:
        for name in set(sys.modules) - set(names):
            if name.startswith(("torch", "lava.lib")):
                del sys.modules[name]


def test_lava_dl_runs_the_file(network, inference, images_of, hdf5, tmp_path):
    """lava-dl's own netx loads the file; Lava's Processes give what the reader above gives."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    path = tmp_path / "net.net"
    netx.write(path, inference)
    for image in images_of(network, 2):
        messages = messages_of(network, image)
        net = hdf5.Network(net_config=str(path), skip_layers=1)
        x = messages.transpose(2, 1, 0) if messages.ndim == 3 else messages  # (width, height, channels)
        steps = len(net) + 1
        data = np.zeros((*x.shape, steps), int)
        data[..., 0] = x
        source, sink = Source(data=data), Sink(shape=net.out.shape, buffer=steps)
        source.s_out.connect(net.inp)
        net.out.connect(sink.a_in)
        try:
            net.run(condition=RunSteps(steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            answer = sink.data.get()[:, -1]
        finally:
            net.stop()
        assert np.array_equal(answer, run(path, messages))


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "bits", "message"),
    [
        (
            "4C3-MP2-F-3FC",
            (6, 6, 1),
            "2888",
            "^layer 0 4C3-MP2: netx has no max-pooling$",
        ),
        ("4FC-3FC", (11_000,), "2888", r"^layer 0 4FC: scales by 2\*\*-7; netx can by 2\*\*-6 at most$"),
        ("3FC", (4,), "9888", "^layer 0 3FC: k_W=9; netx takes weights of 8 bits$"),
    ],
)
def test_networks_that_netx_cannot_hold(text, shape, bits, message, tmp_path, leaves_alone):
    network = Network.parse(text, shape, bits=bits)
    inference = Inference.of(Checkpoint(network, Rules(), initial_state(network)))
    leaves_alone(lambda path: netx.write(path, inference), tmp_path / "folder", NetworkError, message)


@pytest.fixture
def file(trained, tmp_path) -> Path:
    netx.write(tmp_path / "net.net", Inference.of(trained(Network.parse("3C3-F-6FC-4FC", (6, 6, 1)))))
    return tmp_path / "net.net"


def edit(path: Path, name: str, place: object, value: object) -> None:
    with h5py.File(path, "r+") as f:
        f[name][place] = value


def header(path: Path, **changes: object) -> None:
    with h5py.File(path, "r+") as f:
        f.attrs["wage_neuro"] = json.dumps({**json.loads(f.attrs["wage_neuro"]), **changes})


def turn(path: Path) -> None:
    """Give one weight, and that of its partner, the other sign: a good network, but another."""
    with h5py.File(path, "r+") as f:
        weights = f["layer/4/weight"]
        W = weights[...]
        row, column = np.argwhere(W[:, : W.shape[1] // 2])[0]
        W[row, [column, column + W.shape[1] // 2]] *= -1
        weights[...] = W


def without(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as f:
        if name:
            del f[name]
        else:
            del f.attrs["wage_neuro"]


DAMAGE = {
    "newer": (lambda p: header(p, format=3), "format 3; this version reads 2$"),
    "a turned weight": (turn, "changed since it was written: its sha256 is another$"),
    "another learning width": (lambda p: header(p, bits="28C8"), "changed since it was written"),
    "another network": (lambda p: header(p, network="3C3-F-7FC-4FC"), "weights of layer 1 7FC: shape"),
    "not of wage-neuro": (lambda p: without(p, ""), "a netx file that wage-neuro did not write"),
    "weight 2": (
        lambda p: edit(p, "layer/4/weight", (1, 2), 2),
        r"weights of layer 2 4FC: 2 at \(2, 1\); want whole numbers in -1..1$",
    ),
    "weight off its step": (lambda p: edit(p, "layer/1/weight", (0, 0, 0, 0), 1), r"0.\d+ at \(0, 0, 0, 0\)"),
    "a partner's weight": (
        lambda p: edit(p, "layer/4/weight", (0, 7), 9),
        "layer/4/weight: not that of 3C3-F-6FC",
    ),
    "another bias": (lambda p: edit(p, "layer/1/bias", 0, 3), "layer/1/bias: not that of 3C3-F-6FC-4FC$"),
    "no padding": (lambda p: without(p, "layer/1/padding"), "layer/1/padding: in one of this file and"),
    "no layer": (lambda p: without(p, "layer/3"), "not a whole netx file"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-2000]), "truncated or damaged HDF5 \\("),
    "text": (lambda p: p.write_text("net?"), "truncated or damaged HDF5 \\("),
    "missing": (lambda p: p.unlink(), "no such file$"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(kind, file, assert_refused):
    damage, message = DAMAGE[kind]
    damage(file)
    assert_refused(netx.read, file, message)
