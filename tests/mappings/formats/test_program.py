"""The learning program: an interpreter of the file alone learns to the same bits; so does what is loaded."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from mappings.formats import program as learning_program
from wage_neuro import Network, NumpyEngine, Rules, initial_state
from wage_neuro.checkpoint import Checkpoint
from wage_neuro.errors import SettingError

BATCH = Rules(batch=8)
RULES = {
    "batch": BATCH,
    "paper": Rules(batch=4, stored_range="paper"),
    "lower upper boundary": Rules(batch=4, gamma=4),
    "held": Rules(batch=4, shift="held", hold=6, loss="one-sided"),
    "onchip": Rules(batch=1, shift="held", hold=9, update="ternary", loss="one-sided", margin=3),
    "coincidence": Rules(batch=1, shift="held", hold=5, update="coincidence"),
    "random feedback": Rules(batch=4, feedback="random"),
    "direct feedback": Rules(batch=1, shift="held", hold=9, update="ternary", feedback="direct"),
}


# --- an interpreter of dense programs, which shares no code ------------------------------------------


def rne(x, s):
    return np.rint(x * 2.0**-s)


def shr(x, s):
    return np.floor(x * 2.0**-s).astype(np.int64)


MEANING = {
    "sgn": np.sign,
    "min": np.minimum,
    "max": np.maximum,
    "abs": np.abs,
    "clip": np.clip,
    "rne": rne,
    "shr": shr,
}


class Interpreter:
    """Runs a program of dense layers from its JSON text, batch by batch (not pipelined)."""

    def __init__(self, text: str) -> None:
        self.program = json.loads(text)
        self.rules, self.step, self.rows = self.program["rules"], self.program["step"], self.program["layers"]
        self.S = [self.stored(i) for i in range(len(self.rows))]
        self.held = [
            {
                name: [row["exponents"][name]["exponent"], row["exponents"][name]["below"]]
                for name in row["exponents"]
            }
            for row in self.rows
        ]

    def stored(self, i: int) -> np.ndarray:
        row, shape = self.rows[i], self.rows[i]["synapses"]["shape"]
        if row["stored"] is None:
            r = (self.words("initial", i, 0, int(np.prod(shape))) >> np.uint64(32)).astype(np.int64)
            return self.say(i, "s", r=r).astype(np.int64).reshape(shape)
        width = np.int8 if self.program["widths"]["k_G"] <= 8 else np.dtype("<i2")
        return np.frombuffer(base64.b64decode(row["stored"]), width).astype(np.int64).reshape(shape)

    def words(self, purpose: str, layer: int, step: int, count: int) -> np.ndarray:
        key = np.array([self.program["seed"], self.program["random_bits"]["purposes"][purpose]], np.uint64)
        return np.random.Philox(key=key, counter=np.array([0, step, layer, 0], np.uint64)).random_raw(count)

    def fixed(self, i: int, shape: tuple[int, ...]) -> np.ndarray:
        """Fixed feedback weights, as the schema tells them."""
        return ((self.r16("feedback", i, shape, step=0) * 3) >> 16) - 1

    def r16(self, purpose: str, layer: int, shape: tuple[int, ...], step: int | None = None) -> np.ndarray:
        count = int(np.prod(shape))
        words = self.words(purpose, layer, self.step if step is None else step, -(-count // 4))
        pieces = words[:, None] >> np.array([0, 16, 32, 48], np.uint64) & np.uint64(0xFFFF)
        return pieces.reshape(-1)[:count].astype(np.int64).reshape(shape)

    def say(self, i: int, name: str, **names: object) -> np.ndarray:
        text = self.rows[i]["expressions"][name]
        return eval(text, {"__builtins__": {}}, {**MEANING, **names})

    def exponent(self, i: int, name: str, values: np.ndarray, samples: int) -> int | None:
        peak = int(np.abs(values).max())
        new = (peak * peak).bit_length() // 2 if peak else None
        if self.rules["shift"] == "batch":
            return new
        before, held = self.held[i][name][0], self.held[i][name]
        if new is not None:
            if before is None or new >= before:
                held[:] = [new, 0]
            else:
                held[1] += samples
                if held[1] >= self.rules["hold"]:
                    held[:] = [before - 1, 0]
        return before

    def learn(self, images: np.ndarray, labels: np.ndarray, log2_eta: int) -> np.ndarray:
        """Learn one batch; return the products of the last layer before the update."""
        a, kept = np.array(self.program["input_codes"])[images.reshape(len(images), -1)], []
        W = [self.say(i, "w", s=S).astype(np.int64) for i, S in enumerate(self.S)]
        for i, row in enumerate(self.rows):
            z = a @ W[i]
            kept.append((a, z))
            a = self.say(i, "a", z=z).astype(np.int64) if row["neurons"]["sends"] == "a" else z
        answer, d, e_last = a, self.output_error(a, labels), np.zeros_like(a)
        for i in reversed(range(len(self.rows))):
            a_in, z = kept[i]
            if self.rows[i]["feedback"] == "direct":
                d = e_last @ self.fixed(i, (e_last.shape[1], z.shape[1]))
            if "d" in self.rows[i]["expressions"]:
                d = self.say(i, "d", d=d, z=z)
            m_e = self.exponent(i, "error", d, len(d))
            e = np.zeros_like(z) if m_e is None else self.say(i, "e", d=d, z=z, m_e=m_e).astype(np.int64)
            self.update(i, a_in, e, log2_eta)
            if i == len(self.rows) - 1:
                e_last = e
            d = e @ (self.fixed(i, W[i].shape) if self.rows[i]["feedback"] == "random" else W[i]).T
        self.step += 1
        return answer

    def output_error(self, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        output, d = self.program["output"], []
        for row, label in zip(z, labels, strict=True):
            lead = row[label] - max(np.delete(row, label))
            if output["skip"] and eval(output["skip"], {"lead": lead}):
                d.append(np.zeros_like(row))
                continue
            right = np.arange(len(row)) == label
            d.append(
                np.where(right, *(eval(output[name], MEANING, {"z": row}) for name in ("right", "other")))
            )
        return np.array(d)

    def update(self, i: int, a_in: np.ndarray, e: np.ndarray, log2_eta: int) -> None:
        S = self.S[i]
        if self.rules["update"] == "coincidence":
            pre = self.say(i, "pre", a_in=a_in, r=self.r16("pre", i, a_in.shape))
            post = self.say(i, "post", e=e, r=self.r16("post", i, e.shape), log2_eta=log2_eta)
            ds = self.say(i, "ds", g=pre.T @ post)
        else:
            g = a_in.T @ e
            m_g = self.exponent(i, "gradient", g, len(a_in))
            if m_g is None:
                return
            ds = self.say(i, "ds", g=g, m_g=m_g, log2_eta=log2_eta, r=self.r16("update", i, S.shape))
        self.S[i] = self.say(i, "s_next", s=S, ds=ds).astype(np.int64)


@pytest.mark.parametrize("bits", ["2888", "3699"])
@pytest.mark.parametrize("kind", RULES)
def test_the_file_alone_is_enough_to_learn(kind, bits, sparse_images, assert_same_arrays):
    rules = RULES[kind]
    network = Network.parse("F-17FC-9FC-4FC", (5, 6, 1), bits=bits, signed_input=kind == "paper")
    images, labels = sparse_images(24 * rules.batch, (5, 6, 1), 4)
    with NumpyEngine(network, rules, seed=5) as engine:
        fresh = json.dumps(learning_program.to_program(Checkpoint(network, rules, engine.state)))
        interpreter = Interpreter(fresh)
        for first in range(0, len(images), rules.batch):
            if first == len(images) // 2:  # go on from a program in the middle of its training
                saved = Checkpoint(network, rules, engine.state)
                interpreter = Interpreter(json.dumps(learning_program.to_program(saved)))
            part = slice(first, first + rules.batch)
            logits = engine.train(images[part], labels[part], 1)
            assert_same_arrays(interpreter.learn(images[part], labels[part], 1), logits, "products")
            for i, S in enumerate(engine.state.S):
                assert_same_arrays(interpreter.S[i], S.astype(np.int64), f"stored weights of layer {i}")
        assert interpreter.step == engine.state.step
        assert any((S != T).any() for S, T in zip(engine.state.S, initial_state(network, 5).S, strict=True))


@pytest.mark.parametrize(
    "rules", [BATCH, Rules(batch=8, shift="held", hold=12), Rules(batch=8, shift="held", pipelined=True)]
)
def test_what_is_loaded_learns_on_to_the_same_bits(
    rules, network, trained, images_of, assert_same_state, tmp_path
):
    saved = trained(network, rules)
    learning_program.write(tmp_path / "net.json", saved)
    loaded = learning_program.read(tmp_path / "net.json")
    assert loaded.network == network
    assert loaded.rules == rules
    assert loaded.extra == saved.extra
    assert_same_state(loaded.state, saved.state)
    images = images_of(network, 24)
    labels = np.arange(24) % network.classes
    states = []
    for start in (saved, loaded):
        with NumpyEngine(start.network, start.rules, state=start.state) as engine:
            engine.train(images, labels, 2)
            states.append(engine.state)
    assert_same_state(*states)
    assert states[0].step > saved.state.step


def test_fresh_weights_are_named_by_the_seed(tmp_path, assert_same_state):
    network = Network.parse("lenet", (28, 28, 1), classes=10)
    saved = Checkpoint(network, BATCH, initial_state(network, 2**64 - 1))
    learning_program.write(tmp_path / "net.json", saved)
    assert (tmp_path / "net.json").stat().st_size < 20_000
    assert_same_state(learning_program.read(tmp_path / "net.json").state, saved.state)


@pytest.mark.parametrize("k_G", [4, 8, 9])
@pytest.mark.parametrize("stored_range", ["authors", "paper"])
def test_loihis_rule_makes_the_visible_weight(k_G, stored_range):
    """dw, worked out for every tag, gives the weight that `w` says, whatever the weight was."""
    rules = Rules(batch=1, shift="held", update="ternary", stored_range=stored_range)
    network = Network.parse("3FC-2FC", (4,), bits=f"28{k_G}8")
    row = learning_program.to_program(Checkpoint(network, rules, initial_state(network)))["layers"][0]
    bound, step = row["synapses"]["stored_max"], 2 ** (k_G - 2)
    for t in range(-bound, bound + 1):
        for w in (-step, 0, step):
            dw = eval(row["loihi"]["dw"], {"sgn": np.sign, "t": t, "w": w, "u0": 1})
            assert w + dw == step * eval(row["expressions"]["w"], {**MEANING, "s": t})


def test_lava_reads_loihis_rule():
    learning_rule = pytest.importorskip("lava.magma.core.learning.learning_rule")
    network = Network.parse("3FC-2FC", (4,))
    for rules in (RULES["onchip"], RULES["coincidence"]):
        row = learning_program.to_program(Checkpoint(network, rules, initial_state(network)))["layers"][0]
        rule = learning_rule.Loihi2FLearningRule(
            dw=row["loihi"]["dw"], dt=row["loihi"]["dt"].replace("2^n", "2^-7"),
            x1_impulse=1, x1_tau=65535, y1_impulse=1, y1_tau=65535, t_epoch=1,
        )  # fmt: skip
        assert len(rule.dw.products) == 5
        assert len(rule.dt.products) == 1


# --- what is refused ---------------------------------------------------------------------------------


@pytest.fixture
def file(trained, tmp_path) -> Path:
    network = Network.parse("3C3-MP2-F-4FC", (6, 6, 1))
    learning_program.write(tmp_path / "net.json", trained(network))
    return tmp_path / "net.json"


def stored(weights: list[int]) -> str:
    return base64.b64encode(np.array(weights, np.int8).tobytes()).decode()


def turn(row: dict) -> None:
    """Give one stored weight the other sign."""
    S = np.frombuffer(base64.b64decode(row["stored"]), np.int8).copy()
    S[np.flatnonzero(S)[0]] *= -1
    row["stored"] = base64.b64encode(S.tobytes()).decode()


CHANGES = {
    "newer": (lambda p: p.update(format=3), "format 3; this version reads 2$"),
    "a turned weight": (
        lambda p: turn(p["layers"][1]),
        "changed since it was written: its sha256 is another$",
    ),
    "another exponent": (
        lambda p: p["layers"][0]["exponents"]["error"].update(below=7),
        "changed since it was written",
    ),
    "another step": (lambda p: p.update(step=p["step"] + 1), "changed since it was written"),
    "another run": (lambda p: p["run"].update(data="other"), "changed since it was written"),
    "another checksum": (lambda p: p.update(sha256="0" * 64), "changed since it was written"),
    "another kind": (lambda p: p.update(kind="recipe"), "not a wage-neuro learning program$"),
    "stored weight 99": (
        lambda p: p["layers"][0].update(stored=stored([1, 99] * 13 + [0])),
        "stored weights of layer 0 3C3-MP2: 99 at 1; want -64..64$",
    ),
    "weight -128": (lambda p: p["layers"][0].update(stored=stored([-128] * 27)), "-128 at 0; want -64..64$"),
    "too few weights": (lambda p: p["layers"][1].update(stored=stored([0])), "of layer 1 4FC: 1 of 108$"),
    "no base64": (lambda p: p["layers"][1].update(stored="{"), "not a whole wage-neuro learning program"),
    "another rule": (
        lambda p: p["layers"][0]["expressions"].update(w="s"),
        r"\$.layers\[0\].expressions.w: 's'; its network and rules want 'clip\(rne\(s, 6\), -1, 1\)'$",
    ),
    "another target": (
        lambda p: p["output"].update(target=5),
        r"\$.output.target: '5'; its network and rules want",
    ),
    "a missing field": (lambda p: p.pop("seed"), "'seed' is a required property$"),
    "an unknown field": (lambda p: p.update(more=1), "'more' was unexpected"),
    "another type": (lambda p: p.update(step="two"), r"\$.step: 'two' is not of type 'integer'$"),
    "an unknown rule": (lambda p: p["rules"].update(momentum=1), "momentum"),
    "a rule with no meaning": (lambda p: p["rules"].update(batch=0), "batch=0: want 1 or more$"),
    "another network": (lambda p: p.update(network="3C3-MP2-F-5FC"), "of layer 1 5FC: 108 of 135$"),
    "fewer layers": (lambda p: p["layers"].pop(), "1 layers: 3C3-MP2-F-4FC has 2$"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changes_are_refused(kind, file, assert_refused):
    change, message = CHANGES[kind]
    program = json.loads(file.read_text())
    change(program)
    file.write_text(json.dumps(program))
    assert_refused(learning_program.read, file, message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "not a whole wage-neuro learning program"),
        (lambda p: p.write_bytes(b"\xff\xfe{"), "not a whole wage-neuro learning program"),
        (lambda p: p.write_text("[]"), "not a wage-neuro learning program$"),
        (lambda p: p.unlink(), "no such file$"),
    ],
)
def test_damage_is_refused(damage, message, file, assert_refused):
    damage(file)
    assert_refused(learning_program.read, file, message)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"metaplasticity": 2}, "metaplasticity=2: a learning program has 0 only"),
        ({"generator": "philox4x32"}, "generator='philox4x32': a learning program has 'philox4x64' only"),
    ],
)
def test_rules_that_a_program_has_no_words_for_are_refused(rules, message):
    network = Network.parse("4FC-3FC", (5,))
    with pytest.raises(SettingError, match=f"^{message}$"):
        learning_program.to_program(Checkpoint(network, Rules(**rules), initial_state(network)))
