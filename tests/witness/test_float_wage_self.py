"""The float reference against numbers worked by hand and against the golden vectors, a separate witness."""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fw = load("float_wage", HERE / "float_wage.py")


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="ascii"))["cases"]
    return found


# ---- The paper's functions, by hand


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (1, 1),
        (1.41421356, 1),
        (1.41421357, 2),
        (3, 4),
        (0.75, 1),
        (0.7, 0.5),
        (5.65, 4),
        (5.66, 8),
        (2.0**-30, 2.0**-30),
    ],
)
def test_shift_by_hand(x: float, expected: float) -> None:
    assert fw.shift(x) == expected
    assert fw.shift(x) == 2.0 ** round(math.log2(x))


def test_shift_where_float_log2_cannot_tell() -> None:
    # floor(sqrt(2) * 2**52) and the next integer: log2 in float64 gives exactly 52.5 for both.
    low = math.isqrt(2 ** (2 * 52 + 1))
    assert math.log2(low) == math.log2(low + 1) == 52.5
    assert (fw.shift(low), fw.shift(low + 1)) == (2.0**52, 2.0**53)


@pytest.mark.parametrize("x", [0.0, -1.0, math.inf, math.nan])
def test_shift_refuses(x: float) -> None:
    with pytest.raises(ValueError, match="want a positive finite number"):
        fw.shift(x)


def test_Q_halves_go_to_even_and_ends_clip() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 127.5, -127.5, 200, -200]) / 128
    assert fw.to_codes(fw.Q(x, 8), 8).tolist() == [0, 2, 2, 0, -2, -2, 127, -127, 127, -127]
    # The ternary weight: 32/128 is a tie and goes to 0, 33/128 to one half.
    assert fw.Q(np.array([32, 33, -32, -33, 96, 127]) / 128, 2).tolist() == [0, 0.5, 0, -0.5, 0.5, 0.5]


def test_Q_E_by_hand() -> None:
    # Shift(5) = 4: 5/4 clips, -2/4 is -64/128, 1/64/4 is half a step and goes to 0, 3/64/4 is 1.5, to 2.
    codes = fw.to_codes(fw.Q_E(np.array([5, -2, 1 / 64, 3 / 64, 0]), 8), 8)
    assert codes.tolist() == [127, -64, 0, 2, 0]
    assert fw.Q_E(np.zeros((2, 3)), 8).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_Q_G_cuts_to_16_bits_before_it_adds() -> None:
    # The largest is 1, so Shift is 1. 2**-17 is cut to 0: the largest random number does not lift it.
    g = np.array([1.0, 2.0**-17, 2.0**-16, -(2.0**-16), 0.0])
    most = np.full(5, 2**16 - 1)
    assert (128 * fw.Q_G(g, 8, 1.0, most, "wide")).tolist() == [1, 0, 1, -1, 0]
    assert (128 * fw.Q_G(g, 8, 8.0, most, "wide")).tolist() == [8, 1, 1, -1, 0]
    assert (128 * fw.Q_G(g, 8, 8.0, most, "ternary")).tolist() == [1, 1, 1, -1, 0]
    assert fw.Q_G(np.zeros(3), 8, 8.0, most[:3], "wide").tolist() == [0, 0, 0]


def test_alpha_of_the_CIFAR_10_net() -> None:
    n_in = [27, 1152, 1152, 2304, 2304, 4608, 8192, 1024]
    assert [fw.scale(n, 2) for n in n_in] == [2, 16, 16, 16, 16, 32, 32, 16]


# ---- Convolution and pooling, by hand


def test_convolution_is_not_flipped_and_pads_after() -> None:
    a = np.arange(1.0, 10).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 2], [3, 4]]).reshape(2, 2, 1, 1)
    geometry = fw.same_or_valid(3, 2, 1, "SAME")
    assert geometry == (3, 0, 1)
    z = fw.Window(2, 1, geometry, geometry).product(a, w)[0, :, :, 0]
    assert z.tolist() == [[37, 47, 21], [67, 77, 33], [23, 26, 9]]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 1), (3, 2), (2, 3), (5, 2)])
def test_gradient_and_error_are_the_products_adjoints(kernel: int, stride: int, padding: str) -> None:
    rng = np.random.default_rng([kernel, stride])
    rows, columns = (fw.same_or_valid(n, kernel, stride, padding) for n in (7, 6))
    window = fw.Window(kernel, stride, rows, columns)
    a = rng.integers(-9, 10, (2, 7, 6, 3)).astype(float)
    w = rng.integers(-1, 2, (kernel, kernel, 3, 4)).astype(float)
    z = window.product(a, w)
    e = rng.integers(-9, 10, z.shape).astype(float)
    assert np.sum(e * z) == np.sum(w * window.gradient(a, e)) == np.sum(a * window.error_below(e, w, a.shape))


def test_pool_tie_goes_to_the_first_in_row_major_order() -> None:
    z = np.array([[1.0, 5, 0, 0], [5, 5, 0, 0], [2, 2, -3, -1], [1, 2, -1, -1]]).reshape(1, 4, 4, 1)
    pooled, first = fw.max_pool(z, 2, 2)
    assert pooled[0, :, :, 0].tolist() == [[5, 0], [2, -1]]
    assert first[0, :, :, 0].tolist() == [[1, 0], [0, 1]]
    e = np.array([[10.0, 20], [30, 40]]).reshape(1, 2, 2, 1)
    spread = fw.max_unpool(e, first, 2, 2, z.shape)[0, :, :, 0]
    assert spread.tolist() == [[0, 10, 20, 0], [0, 0, 0, 0], [30, 0, 0, 40], [0, 0, 0, 0]]


def test_overlapping_windows_add_their_errors() -> None:
    z = np.array([[0.0, 0, 0], [0, 9, 0], [0, 0, 0]]).reshape(1, 3, 3, 1)
    _, first = fw.max_pool(z, 2, 1)
    spread = fw.max_unpool(np.ones((1, 2, 2, 1)), first, 2, 1, z.shape)
    assert spread[0, :, :, 0].tolist() == [[0, 0, 0], [0, 4, 0], [0, 0, 0]]


# ---- Whole steps, by hand


@pytest.mark.parametrize(
    ("stored_range", "update", "eta", "random", "steps"),
    [
        ("authors", "wide", 1, 2**14, [[64, -64], [0, 33]]),  # 64 + 1 is beyond the authors' range
        ("paper", "wide", 1, 2**14, [[65, -64], [0, 33]]),
        ("paper", "wide", 8, 2**15, [[70, -63], [3, 34]]),
        ("paper", "ternary", 8, 2**15, [[65, -63], [1, 34]]),
    ],
)
def test_one_dense_step(
    stored_range: str, update: str, eta: float, random: int, steps: list[list[int]]
) -> None:
    """z = (1/4, -1/8), e = (-3/4, -1/8), g = (-12, -2; -6, -1) / 32, Shift 1/2; 33/128 counts as 1/2."""
    W = np.array([[64, -64], [0, 33]]) / 128
    net = fw.FloatWage([fw.DenseSpec(2)], (2,), [W], stored_range=stored_range, update=update)
    x, labels = np.array([[0.5, 0.25]]), np.array([0])
    assert net.alphas == [1.0]
    assert net.forward(x).tolist() == [[0.25, -0.125]]
    assert net.loss(x, labels) == 0.5 * (0.75**2 + 0.125**2)
    net.step(x, labels, eta, [np.full((2, 2), random)])
    assert net.last.errors[0].tolist() == [[-0.75, -0.125]]
    assert net.last.gradients[0].tolist() == [[-0.375, -0.0625], [-0.1875, -0.03125]]
    assert net.codes()[0].tolist() == steps


def test_saturation_masks_before_Shift_looks_and_ReLU_masks_after() -> None:
    """Hidden unit 0 stands at 127/128 for the first sample (passes) and at 1 for the second (masked).

    Errors arriving at the hidden layer, times 128: (-8, -24, -56) and (95.5, -63.5, -31.5). With 95.5 masked,
    Shift is 1/2, not 1, and every code doubles. Unit 2 is below zero, so ReLU masks it last.
    """
    W1 = np.zeros((4, 3))
    W1[:, 0], W1[0, 1], W1[0, 2] = 0.5, 0.5, -0.5
    W2 = np.array([[0.5, -0.5], [0, 0.5], [0.5, 0.5]])
    net = fw.FloatWage([fw.DenseSpec(3), fw.DenseSpec(2)], (4,), [W1, W2])
    x = np.array([[64, 64, 64, 62], [64, 64, 64, 64]]) / 128
    net.step(x, np.array([0, 1]), 1.0, [np.zeros((4, 3)), np.zeros((3, 2))])
    assert net.last.pre[0].tolist() == [[127 / 128, 0.25, -0.25], [1, 0.25, -0.25]]
    assert fw.to_codes(net.last.activations[1], 8).tolist() == [[127, 32, 0], [127, 32, 0]]
    assert fw.to_codes(net.last.errors[1], 8).tolist() == [[-64, -48], [64, -127]]
    assert fw.to_codes(net.last.quantized[0], 8).tolist() == [[-16, -48, -112], [0, -127, -63]]
    assert fw.to_codes(net.last.errors[0], 8).tolist() == [[-16, -48, 0], [0, -127, 0]]


def test_zero_gradient_moves_nothing() -> None:
    W = [np.full((2, 3), 0.5), np.full((3, 2), -0.5)]
    net = fw.FloatWage([fw.DenseSpec(3), fw.DenseSpec(2)], (2,), W, stored_range="paper")
    net.step(np.zeros((4, 2)), np.array([0, 1, 0, 1]), 8.0, [np.full(w.shape, 2**16 - 1) for w in W])
    assert all(np.array_equal(w, before) for w, before in zip(net.weights, W, strict=True))


def test_alpha_is_a_scale_of_the_logits_alone() -> None:
    W = np.full((12, 2), 0.5)
    net = fw.FloatWage([fw.DenseSpec(2)], (12,), [W])
    assert net.alphas == [2.0]
    assert net.forward(np.full((1, 12), 0.5)).tolist() == [[1.5, 1.5]]


# ---- What it refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stored_range": "ours"}, "want 'authors' or 'paper'"),
        ({"update": "narrow"}, "want 'wide' or 'ternary'"),
        ({"weights": []}, "0 weights for 1 layers"),
        ({"weights": [np.zeros((2, 3))]}, r"shape \(2, 3\), want \(4, 2\)"),
        ({"weights": [np.full((4, 2), 0.001)]}, "off the grid"),
        ({"weights": [np.ones((4, 2))]}, "beyond 1 - sigma"),
        ({"specs": [fw.ConvSpec(2, 1)], "input_shape": (2, 2, 1)}, "the last layer must be dense"),
        ({"specs": [fw.ConvSpec(2, 1), fw.DenseSpec(2)]}, "needs an image"),
        ({"specs": [fw.ConvSpec(2, 3, padding="FULL")], "input_shape": (2, 2, 1)}, "want 'SAME' or 'VALID'"),
        ({"specs": [fw.ConvSpec(2, 3, padding="VALID")], "input_shape": (2, 2, 1)}, "leaves nothing"),
    ],
)
def test_network_refuses(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"specs": [fw.DenseSpec(2)], "input_shape": (4,), "weights": [np.zeros((4, 2))]}
    with pytest.raises(ValueError, match=message):
        fw.FloatWage(**{**good, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eta": 3.0}, "want a power of two"),
        ({"eta": 0.0}, "want a power of two"),
        ({"labels": np.array([2])}, "want 1 class numbers below 2"),
        ({"x_real": np.array([[0.3, 0, 0, 0]])}, "off the grid"),
        ({"x_real": np.array([[1.0, 0, 0, 0]])}, "beyond 1 - sigma"),
        ({"x_real": np.zeros((1, 5))}, "want "),
        ({"random": []}, "want one array a weight"),
        ({"random": [np.full((4, 2), 2**16)]}, "want integers 0 .. 65535"),
    ],
)
def test_step_refuses(change: dict[str, Any], message: str) -> None:
    net = fw.FloatWage([fw.DenseSpec(2)], (4,), [np.zeros((4, 2))])
    good: dict[str, Any] = {
        "x_real": np.zeros((1, 4)),
        "labels": np.array([0]),
        "eta": 1.0,
        "random": [np.zeros((4, 2), dtype=np.uint16)],
    }
    with pytest.raises(ValueError, match=message):
        net.step(**{**good, **change})


def test_sums_that_float64_could_not_hold_are_refused() -> None:
    net = fw.FloatWage([fw.DenseSpec(2)], (4,), [np.zeros((4, 2))], k_W=24, k_A=29, k_G=24)
    with pytest.raises(ValueError, match=r"float64 is exact below 2\*\*53"):
        net.forward(np.zeros((1, 4)))


# ---- Against the golden vectors


def test_golden_files_are_what_the_script_makes(capsys: pytest.CaptureFixture[str]) -> None:
    script = load("make_golden", GOLDEN / "make_golden.py")
    assert script.main(["--check"]) == 0, capsys.readouterr().err


def test_check_sees_a_changed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load("make_golden", GOLDEN / "make_golden.py")
    monkeypatch.setattr(script, "HERE", tmp_path)
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    path = tmp_path / "error.json"
    path.write_bytes(path.read_bytes().replace(b'"k_E":8', b'"k_E":9', 1))
    (tmp_path / "alpha.json").unlink()
    assert script.main(["--check"]) == 1
    named = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert named == ["error.json", "alpha.json"]


def test_golden_operators() -> None:
    for c in cases("round_shift"):
        assert np.rint(np.array(c["x"]) / 2.0 ** c["s"]).tolist() == c["result"]
    for c in cases("shift_exponent"):
        for v, m in zip(c["largest"], c["m"], strict=True):
            assert m is None if v == 0 else fw.shift(v) == 2.0**m
    for c in cases("error"):
        assert fw.to_codes(fw.Q_E(np.array(c["D"], dtype=float), c["k_E"]), c["k_E"]).tolist() == c["E"]
    for c in cases("activation"):
        z = np.array(c["Z"]) / 2.0 ** (c["shift"] + c["k_A"] - 1)
        assert fw.to_codes(fw.Q(np.maximum(z, 0), c["k_A"]), c["k_A"]).tolist() == c["A"]
        assert (np.maximum(z, 0) > 1 - fw.sigma(c["k_A"])).tolist() == c["saturated"]
        assert (z > 0).tolist() == c["active"]
    for c in cases("alpha"):
        assert [fw.scale(n, c["k_W"]) for n in c["n_in"]] == [2.0**s for s in c["s"]]
    for c in cases("input"):
        grey = np.arange(256)
        most = 1 - fw.sigma(c["k_A"])
        assert fw.to_codes(fw.Q(grey / 255, c["k_A"]), c["k_A"]).tolist() == c["unsigned"]
        signed = np.clip(fw.Q(2 * grey / 255 - 1, c["k_A"]), -most, most)
        assert fw.to_codes(signed, c["k_A"]).tolist() == c["signed"]


def test_golden_updates() -> None:
    for c in cases("update"):
        k_G, G = c["k_G"], np.array(c["G"], dtype=float)
        dW = fw.Q_G(G, k_G, 2.0 ** c["log2_eta"], np.array(c["r"]), c["update"])
        assert np.rint(dW * 2 ** (k_G - 1)).tolist() == c["dS"]
        bound = 1 - fw.sigma(c["k_W"] if c["stored_range"] == "authors" and k_G >= c["k_W"] else k_G)
        W = np.clip(np.array(c["S"]) / 2 ** (k_G - 1) - dW, -bound, bound)
        assert fw.to_codes(W, k_G).tolist() == c["S_new"]


TRACES = [(name, i) for name in ("trace_dense", "trace_conv") for i in range(len(cases(name)))]


def network_of(case: dict[str, Any]) -> Any:
    def spec(layer: dict[str, Any]) -> Any:
        fields = {name: value for name, value in layer.items() if name != "kind"}
        return fw.DenseSpec(**fields) if layer["kind"] == "dense" else fw.ConvSpec(**fields)

    unit = 2.0 ** (case["bits"]["k_G"] - 1)
    shaped = zip(case["S"], case["weight_shapes"], strict=True)
    return fw.FloatWage(
        [spec(layer) for layer in case["layers"]],
        case["input_shape"],
        [np.array(s).reshape(shape) / unit for s, shape in shaped],
        stored_range=case["stored_range"],
        update=case["update"],
        **case["bits"],
    )


@pytest.mark.parametrize(("name", "number"), TRACES)
def test_golden_traces(name: str, number: int) -> None:
    case = cases(name)[number]
    bits, net = case["bits"], network_of(case)
    k_W, k_A, k_E = bits["k_W"], bits["k_A"], bits["k_E"]
    assert net.alphas == [2.0**s for s in case["alpha_shift"]]
    for t, expected in enumerate(case["steps"]):
        assert [fw.to_codes(w, k_W).ravel().tolist() for w in net.visible()] == expected["V"]
        shaped = zip(case["random"][t], case["weight_shapes"], strict=True)
        random = [np.array(r, dtype=np.uint16).reshape(shape) for r, shape in shaped]
        x = np.array(case["x"][t]) / 2.0 ** (k_A - 1)
        net.step(x, np.array(case["labels"][t]), 2.0 ** case["log2_eta"][t], random)
        for i, s in enumerate(case["alpha_shift"]):
            n, product, gradient = len(x), k_A - 1 + k_W - 1 + s, k_A - 1 + k_E - 1 + s
            assert fw.to_codes(net.last.activations[i], k_A).reshape(n, -1).tolist() == expected["A"][i]
            assert (net.last.pre[i] * 2.0**product).reshape(n, -1).tolist() == expected["Z"][i]
            assert (
                fw.to_codes(net.last.quantized[i], k_E).reshape(n, -1).tolist() == expected["E_quantized"][i]
            )
            assert fw.to_codes(net.last.errors[i], k_E).reshape(n, -1).tolist() == expected["E"][i]
            assert (net.last.gradients[i] * 2.0**gradient).ravel().tolist() == expected["G"][i]
        assert [w.ravel().tolist() for w in net.codes()] == expected["S"]


def test_the_traces_meet_every_branch() -> None:
    """A trace in which nothing saturates, ties or moves would prove little."""
    met = dict.fromkeys(
        ("saturated", "inactive", "moved", "visible moved", "clipped", "wider than one step"), 0
    )
    for name, number in TRACES:
        case = cases(name)[number]
        k_A, k_W = case["bits"]["k_A"], case["bits"]["k_W"]
        for i, step in enumerate(case["steps"]):
            hidden = list(zip(step["Z"], case["alpha_shift"], strict=True))[:-1]
            edges = [
                (z, (2 ** (k_A - 1) - 1) * 2 ** (k_W - 1 + s)) for Z, s in hidden for row in Z for z in row
            ]
            met["saturated"] += sum(z > edge for z, edge in edges)
            met["inactive"] += sum(z <= 0 for z, _ in edges)
            met["moved"] += sum(d != 0 for dS in step["dS"] for d in dS)
            met["wider than one step"] += sum(abs(d) > 1 for dS in step["dS"] for d in dS)
            before = case["steps"][i - 1]["S"] if i else case["S"]
            pairs = [sd for SdS in zip(before, step["dS"], strict=True) for sd in zip(*SdS, strict=True)]
            met["clipped"] += sum(abs(s - d) > case["bound"] for s, d in pairs)
            met["visible moved"] += i > 0 and step["V"] != case["steps"][i - 1]["V"]
    assert min(met.values()) > 0, met


def test_golden_philox_is_numpys() -> None:
    for c in cases("philox"):
        generator = np.random.Philox(
            key=np.array(c["key"], dtype=np.uint64), counter=np.array(c["counter"], dtype=np.uint64)
        )
        assert generator.random_raw(12).tolist() == c["words"]
