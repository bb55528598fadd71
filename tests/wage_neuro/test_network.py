"""Networks: notation, shapes, input codes, and what is refused."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wage_neuro import AvgPool, Bits, Conv, Dense, Flatten, MaxPool, Network
from wage_neuro.bits import code_dtype
from wage_neuro.errors import BitWidthError, DataError, NetworkError
from wage_neuro.network import PRESETS

FEW = st.integers(1, 4)
CONV = st.builds(Conv, FEW, FEW, st.integers(1, 2), st.sampled_from(["SAME", "VALID"]))
POOL = st.builds(MaxPool, st.integers(1, 3), st.none() | st.integers(1, 2)) | st.just(AvgPool(2))
BLOCK = st.tuples(CONV) | st.tuples(CONV, POOL)
DENSE = st.lists(st.builds(Dense, st.integers(1, 300)), min_size=1, max_size=4).map(tuple)
BITS = st.builds(Bits, *[st.integers(2, 16)] * 4)


@st.composite
def networks(draw):
    if draw(st.booleans()):
        flat = draw(st.sampled_from([(), (Flatten(),)]))
        return Network((*flat, *draw(DENSE)), (draw(st.integers(1, 50)),), draw(BITS), draw(st.booleans()))
    blocks = draw(st.lists(BLOCK, max_size=2))
    specs = (*(spec for block in blocks for spec in block), Flatten(), *draw(DENSE))
    return Network(specs, (draw(st.integers(30, 40)), 35, draw(FEW)), draw(BITS), draw(st.booleans()))


@given(networks())
def test_parse_reads_what_str_writes(net):
    again = Network.parse(str(net), net.input_shape, bits=str(net.bits), signed_input=net.signed_input)
    assert again == net
    assert again.layers == net.layers
    assert net.n_weights == sum(int(np.prod(layer.weight_shape)) for layer in net.layers)
    assert net.classes == net.specs[-1].units


@given(networks())
def test_layers_chain_and_their_bounds_hold(net):
    shape, exact = net.input_shape, {np.float32: 2**24, np.float64: 2**53}
    for i, layer in enumerate(net.layers):
        assert (layer.index, layer.is_last) == (i, i == len(net.layers) - 1)
        assert int(np.prod(layer.in_shape)) == int(np.prod(shape))
        assert 2 * layer.fan_in * layer.bits.weight_max * layer.bits.activation_max <= exact[layer.z_dtype]
        assert layer.d_bound <= exact[layer.d_dtype]
        shape = layer.out_shape


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("512FC", (Dense(512),)),
        ("512", (Dense(512),)),
        ("10FCSSE", (Dense(10),)),
        ("8FC-10FCU", (Dense(8), Dense(10, quantized=False))),
        ("32C5-F-2", (Conv(32, 5), Flatten(), Dense(2))),
        ("32C5S2V-MP2-F-2", (Conv(32, 5, 2, "VALID"), MaxPool(2), Flatten(), Dense(2))),
        ("32C5V-MP3S2-F-2", (Conv(32, 5, 1, "VALID"), MaxPool(3, 2), Flatten(), Dense(2))),
    ],
)
def test_notation(text, specs):
    assert Network.parse(text, (28, 28, 1) if "C5" in text else (9,)).specs == specs


@pytest.mark.parametrize(
    ("text", "shape", "whole"),
    [
        ("lenet", (28, 28, 1), "32C5-MP2-64C5-MP2-F-512FC-10FC"),
        ("mlp", (28, 28, 1), "F-256FC-10FC"),
        ("mlp", (784,), "256FC-10FC"),
        ("8C3", (8, 8, 1), "8C3-F-10FC"),
        ("8C3-F-20FC", (8, 8, 1), "8C3-F-20FC-10FC"),
        ("8C3-FCU", (8, 8, 1), "8C3-F-10FCU"),
        ("FCU", (8, 8, 1), "F-10FCU"),
    ],
)
def test_hidden_layers_get_their_output(text, shape, whole):
    assert str(Network.parse(text, shape, classes=10)) == whole


@pytest.mark.parametrize(
    ("preset", "shape", "alphas"),
    [
        ("vgg", (32, 32, 3), [2, 16, 16, 16, 16, 32, 32, 16]),  # the authors' training log
        ("lenet", (28, 28, 1), [2, 16, 32, 8]),
        ("mlp", (28, 28, 1), [16, 8]),
        # the last layer is unquantized: its weights need no scale
        ("alexnet", (224, 224, 3), [8, 16, 16, 32, 32, 64, 32, 1]),
        ("alexnet-56", (56, 56, 3), [4, 16, 16, 32, 32, 32, 32, 1]),
    ],
)
def test_layer_scales_of_the_papers_networks(preset, shape, alphas, plain):
    net = Network.parse(preset, shape, classes=10)
    assert [2**layer.scale_shift for layer in net.layers] == alphas
    assert alphas == [2 ** plain.alpha_shift(layer.fan_in, layer.bits.k_W) for layer in net.layers]
    assert set(PRESETS) == {"vgg", "lenet", "mlp", "alexnet", "alexnet-56"}


@pytest.mark.parametrize("k_W", range(2, 17))
def test_layer_scale_of_every_fan_in(k_W, plain):
    fan_ins = [*range(1, 60), *(2 * 4**j // 3 + d for j in range(3, 11) for d in (0, 1))]
    nets = [Network((Dense(1),), (n,), Bits(k_W=k_W)) for n in fan_ins]
    assert [net.layers[0].scale_shift for net in nets] == [plain.alpha_shift(n, k_W) for n in fan_ins]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("k_A", range(2, 17))
def test_input_codes_of_every_grey_level(k_A, signed):
    net = Network((Flatten(), Dense(2)), (2, 128, 1), Bits(k_A=k_A), signed)
    top = 2 ** (k_A - 1) - 1
    value = [Fraction(2 * g - 255, 255) if signed else Fraction(g, 255) for g in range(256)]
    expected = [max(-top, min(top, round(v * 2 ** (k_A - 1)))) for v in value]  # round: halves to even
    assert net.input_codes.tolist() == expected
    x = net.encode(np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 256))
    assert (x.shape, x.dtype) == ((2, 2, 128, 1), code_dtype(k_A))
    assert x.reshape(2, 256).tolist() == [expected] * 2


IMAGE = (8, 8, 1)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("2C3-F", IMAGE, "last layer F: want a Dense with a unit a class"),
        ("3FC-3C3", (4,), "last layer 3C3: want a Dense with a unit a class"),
        ("MP2-F-2FC", IMAGE, "layer 0 MP2: a MaxPool must follow a Conv"),
        ("2C3-MP2-MP3S1-F-2FC", IMAGE, "layer 2 MP3S1: a MaxPool must follow a Conv"),
        ("2C3-F-MP2-2FC", IMAGE, "layer 2 MP2: a MaxPool must follow a Conv"),
        ("F-4FC-MP2-2FC", IMAGE, "layer 2 MP2: a MaxPool must follow a Conv"),
        ("2FC", IMAGE, "layer 0 2FC: its input has shape (8, 8, 1); put a Flatten() before it"),
        ("2C3-MP2-2FC", IMAGE, "layer 2 2FC: its input has shape (4, 4, 2); put a Flatten() before it"),
        ("2C3-2FC", (4,), "layer 0 2C3: its input has shape (4,); want (height, width, channels)"),
        ("F-2C3-2FC", IMAGE, "layer 1 2C3: its input has shape (64,); want (height, width, channels)"),
        ("2C9V-F-2FC", IMAGE, "layer 0 2C9V: kernel 9 is larger than its input (8, 8, 1)"),
        ("2C9S4V-F-2FC", IMAGE, "layer 0 2C9S4V: kernel 9 is larger than its input (8, 8, 1)"),
        ("2C3S3-MP4-F-2FC", IMAGE, "layer 0 MP4: window 4 is larger than its input (3, 3, 2)"),
        ("2FC", (), "input shape (): want (height, width, channels) or (features,)"),
        ("2FC", (4, 4), "input shape (4, 4): want (height, width, channels) or (features,)"),
        ("2FC", (0,), "input shape (0,): want (height, width, channels) or (features,)"),
        ("2FC", (8, -8, 1), "input shape (8, -8, 1): want (height, width, channels) or (features,)"),
    ],
)
def test_layers_that_do_not_chain(text, shape, message):
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        Network.parse(text, shape)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ((), "last layer None: want a Dense with a unit a class"),
        (("512FC", Dense(2)), "layer 0 '512FC': want Dense, Conv, MaxPool, AvgPool or Flatten"),
    ],
)
def test_specs_that_are_none(specs, message):
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        Network(specs, (4,))


@pytest.mark.parametrize(
    ("specs", "shape", "name", "bound"),
    [
        ((Dense(1),), (2**22 + 2**9,), "layer 0 1FC", 2 * (2**22 + 2**9) * 32767**2),
        ((Dense(2**23 + 2**10),), (1,), f"layer 0 {2**23 + 2**10}FC", (2**23 + 2**10) * 32767**2),
    ],
)
def test_sums_past_what_can_be_exact(specs, shape, name, bound):
    message = f"{name}: integers up to {bound} are past the exact range of float64 (2**53)"
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        Network(specs, shape, "16-16-16-16")
    Network(specs, shape, "8-16-16-8")


@pytest.mark.parametrize(
    "text",
    ["", "lenet5", "32C", "MP", "-512FC", "512fc", "8C3--2FC", "8C3P", "F2", "3.5FC", "8C3-FCU", "FCU"],
)
def test_text_that_cannot_be_read(text):
    token = "" if text.startswith("-") else next(t for t in text.split("-") if t not in ("8C3", "2FC"))
    message = (
        f"network {text!r}: cannot read {token!r}; want lenet, mlp, vgg, alexnet, alexnet-56"
        " or tokens such as 32C5, MP2, 512FC joined by '-'" + "; did you mean lenet?" * (text == "lenet5")
    )
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        Network.parse(text, IMAGE)


def test_values_in_the_text_are_checked():
    with pytest.raises(NetworkError, match=r"^Conv stride=0: want"):
        Network.parse("8C3S0-F-2", IMAGE)
    with pytest.raises(NetworkError, match=r"^Dense units=0: want"):
        Network.parse("0FC", (4,))
    with pytest.raises(BitWidthError, match=r"^bits '1888': k_W=1: want"):
        Network.parse("2FC", (4,), bits="1888")


def test_an_unquantized_layer_has_sixteen_bits_and_is_the_last():
    net = Network.parse("6FC-3FCU", (4,), bits="2-7-8-6")
    assert [layer.bits for layer in net.layers] == [Bits(2, 7, 8, 6), Bits(16, 7, 16, 16)]
    assert [layer.quantized for layer in net.layers] == [True, False]
    # a logit of 1.0: an activation of 6 bits below 1 times a weight of 15
    assert net.layers[-1].log2_target == 6 + 15
    assert Network.parse(str(net), (4,), bits="2-7-8-6") == net
    with pytest.raises(NetworkError, match=r"^layer 0 6FCU: only the last layer may be unquantized$"):
        Network.parse("6FCU-3FC", (4,))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 1)), "images of float64: want uint8 grey levels 0..255"),
        (np.zeros((2, 8, 8, 1), np.int8), "images of int8: want uint8 grey levels 0..255"),
        (np.zeros(64, np.uint8), "images of shape (): this network takes (8, 8, 1)"),
        (np.zeros((2, 8, 7, 1), np.uint8), "images of shape (8, 7, 1): this network takes (8, 8, 1)"),
        (np.zeros((2, 1, 8, 8), np.uint8), "images of shape (1, 8, 8): this network takes (8, 8, 1)"),
        (np.zeros((2, 63), np.uint8), "images of shape (63,): this network takes (8, 8, 1)"),
    ],
)
def test_images_that_do_not_fit(images, message):
    net = Network((Flatten(), Dense(3)), IMAGE)
    for check in (net.check_images, net.encode):
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            check(images)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 8, 8), (2, 64), (0, 8, 8, 1)])
def test_images_that_fit(shape):
    assert Network((Flatten(), Dense(3)), IMAGE).encode(np.zeros(shape, np.uint8)).shape == (
        shape[0],
        8,
        8,
        1,
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1]), "labels of shape (2,) and type int64: want 3 whole numbers"),
        (np.zeros((3, 1), int), "labels of shape (3, 1) and type int64: want 3 whole numbers"),
        (np.zeros(3), "labels of shape (3,) and type float64: want 3 whole numbers"),
        (np.zeros(3, bool), "labels of shape (3,) and type bool: want 3 whole numbers"),
        (np.array([0, 3, 7]), "label 3: this network has outputs 0..2"),
        (np.array([0, 1, -1], np.int8), "label -1: this network has outputs 0..2"),
        (np.array([0, 1, 200], np.uint8), "label 200: this network has outputs 0..2"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    net = Network((Dense(3),), (4,))
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        net.check_labels(labels, 3)
    net.check_labels(np.array([0, 2, 1], np.uint8), 3)
    net.check_labels(np.array([], np.int64), 0)
