"""Learning Processes in graphs of one's own: numpy's bits, beside all of Lava's own Processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lava", reason="lava-nc is not installed")

import processes  # isort: skip  # noqa: F401

from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense as LavaDense
from lava.proc.io.dataloader import SpikeDataloader
from lava.proc.io.extractor import Extractor
from lava.proc.io.injector import Injector
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIF
from lava.proc.monitor.process import Monitor
from lava.proc.sdn.process import Delta, Sigma, SigmaDelta

from mappings.engines.lava.graph import Graph
from processes.alone import ONLINE, Stream
from processes.conv.process import WageConv
from processes.dense.process import WageDense
from processes.frozen.process import FrozenConv, FrozenDense
from processes.loss.process import Loss
from processes.steady.process import Steady
from wage_neuro import Conv, Flatten, MaxPool, Network, NumpyEngine, Rules, State
from wage_neuro import Dense as DenseSpec
from wage_neuro.errors import BitWidthError, EngineError, SettingError
from wage_neuro.layers import visible_weights
from wage_neuro.rules import LOSSES, UPDATES
from wage_neuro.train import Held, initial_state, predict

NETWORK = Network((Flatten(), DenseSpec(14), DenseSpec(4)), (5, 5, 1))
DRAIN = 2 * len(NETWORK.layers)  # time steps until the last error has come through


@pytest.fixture
def samples(sparse_images):
    return sparse_images(90, NETWORK.input_shape, 4, seed=2)


def streams(network, *parts):
    """Codes and one-hot targets over time: each part of samples, then steps of zeros in which they leave."""
    codes, targets = [], []
    for images, labels in parts:
        n = len(images)
        x = network.encode(images).reshape(n, -1).astype(int)
        codes += [x, np.zeros((2 * len(network.layers), x.shape[1]), int)]
        hot = np.zeros((n + 2 * len(network.layers), network.classes), int)
        hot[np.arange(n), labels] = 1
        targets.append(hot)
    return np.concatenate(codes).T, np.concatenate(targets).T


class Learner:
    """RingBuffers -> two learning layers -> loss."""

    def __init__(self, codes, targets, learned=(None, None), rules=ONLINE):
        self.source, self.targets = RingBuffer(data=codes), RingBuffer(data=targets)
        self.layers = [
            WageDense((25, 14), clock=Stream(delay=4), learned=learned[0], rules=rules),
            WageDense((14, 4), last=True, index=1, clock=Stream(2, start=1), learned=learned[1], rules=rules),
        ]
        self.loss = Loss((14, 4), delay=2, rules=rules)
        first, last = self.layers
        self.source.s_out.connect(first.a_in)
        first.a_out.connect(last.a_in)
        last.z_out.connect(self.loss.z_in)
        self.targets.s_out.connect(self.loss.y_in)
        self.loss.e_out.connect(last.e_in)
        last.e_out.connect(first.e_in)


def as_state(learned, step, seed=0):
    def held(pair):
        return Held(None if pair[0] < 0 else int(pair[0]), int(pair[1]))

    return State.of(
        [one["S"].astype(np.int8) for one in learned],
        seed=seed,
        step=step,
        error_held=[held(one["error_held"]) for one in learned],
        gradient_held=[held(one["gradient_held"]) for one in learned],
    )


def oracle(network, state, images, labels, rules=ONLINE, control=3):
    engine = NumpyEngine(network, replace(rules, batch=len(images)), state=state)
    logits = engine.train(images, labels, control)
    return engine.state, logits


def numbers(engine_state):
    """What does not count time steps."""
    return (*engine_state.S, *engine_state.error_held, *engine_state.gradient_held)


def assert_equal(one, other):
    for a, b in zip(numbers(one), numbers(other), strict=True):
        assert a == b if isinstance(a, Held) else np.array_equal(a, b)


def test_numpys_bits_a_switch_and_a_graph_built_again(samples):
    """Learn; only answer; learn on, in this graph and in one built from what it had learned."""
    (images, labels), n = samples, 30
    parts = [(images[i : i + n], labels[i : i + n]) for i in (0, 30, 60)]
    graph = Learner(*streams(NETWORK, *parts))
    monitor, answers = Monitor(), Monitor()
    monitor.probe(graph.layers[1].z_out, 3 * (n + DRAIN))
    answers.probe(graph.loss.answer_out, 3 * (n + DRAIN))
    run = Graph(graph.source)

    def learned():
        return run.ask(lambda: [layer.learned() for layer in graph.layers])

    def set_all(name, value):
        run.ask(lambda: [getattr(layer, name).set(np.array([value])) for layer in graph.layers])

    run.run(n + DRAIN)
    state, logits = oracle(NETWORK, initial_state(NETWORK), *parts[0])
    assert_equal(as_state(learned(), 0), state)
    assert [int(one["update_step"][0]) for one in learned()] == [n, n + 1]
    set_all("learning", 0)
    run.run(n + DRAIN)
    assert_equal(as_state(learned(), 0), state)
    again = Learner(*streams(NETWORK, parts[2]), learned=learned())
    set_all("learning", 1)
    run.run(n + DRAIN)
    third, third_logits = oracle(NETWORK, replace(state, step=2 * (n + DRAIN)), *parts[2])
    assert_equal(as_state(learned(), 0), third)
    assert any((a != b).any() for a, b in zip(state.S, third.S, strict=True))
    second_logits = predict(NETWORK, state, NETWORK.encode(parts[1][0]))
    seen = run.ask(monitor.get_data)[graph.layers[1].name]["z_out"].reshape(3, n + DRAIN, 4)[:, 2 : n + 2]
    assert np.array_equal(seen, [logits, second_logits, third_logits])
    told = run.ask(answers.get_data)["loss"]["answer_out"].reshape(3, n + DRAIN)
    assert np.array_equal(told[:, 3 : n + 3], seen.argmax(axis=2))
    assert (told[:, [0, 1, 2, n + 3]] == -1).all()
    right = (seen.argmax(axis=2) == [part[1] for part in parts]).sum()
    assert run.ask(lambda: [int(graph.loss.seen.get()[0]), int(graph.loss.right.get()[0])]) == [3 * n, right]
    last, before = learned(), as_state(learned(), 0)
    var = run.ask(lambda: [layer.S.get() for layer in graph.layers])  # one number a message
    assert all(np.array_equal(a, b["S"]) for a, b in zip(var, last, strict=True))
    first = [{name: value * 0 - (name[-4:] == "held") for name, value in one.items()} for one in last]
    run.ask(lambda: [layer.go_on_from(one) for layer, one in zip(graph.layers, first, strict=True)])
    assert not any(S.any() for S in as_state(learned(), 0).S)
    run.ask(lambda: [layer.go_on_from(one) for layer, one in zip(graph.layers, last, strict=True)])
    assert_equal(as_state(learned(), 0), before)
    run.close()
    # Lava's own way to run a graph, with its own channels
    try:
        config = Loihi2SimCfg(select_tag="fixed_pt")
        again.source.run(condition=RunSteps(n + DRAIN), run_cfg=config)
        for layer, before in zip(again.layers, last, strict=True):
            assert all(np.array_equal(layer.learned()[name], before[name]) for name in before)
    finally:
        again.source.stop()


def test_rules_change_while_the_graph_lives(samples, nothing_left):
    """Loss, margin, update form and the error's way, from Vars, as numpy has them."""
    (images, labels), n = samples, 18
    changes = [
        {"loss": "sse", "margin": 0},
        {"update": "coincidence", "margin": 8},
        {"update": "wide", "loss": "softmax", "margin": 2},
        {"update": "ternary", "feedback": 0, "loss": "sse"},
        {"feedback": 1, "loss": "one-sided", "margin": 5},
    ]
    parts = [(images[i * n : (i + 1) * n], labels[i * n : (i + 1) * n]) for i in range(len(changes))]
    graph = Learner(*streams(NETWORK, *parts))
    state, rules, moved = initial_state(NETWORK), ONLINE, []
    with Graph(graph.source) as run:
        for i, change in enumerate(changes):
            own = {name: value for name, value in change.items() if name != "feedback"}
            rules = replace(rules, **own)

            feedback = change.get("feedback", 1)

            def put(rules=rules, feedback=feedback):
                for layer in graph.layers:
                    layer.update.set(np.array([UPDATES.index(rules.update)]))
                    layer.feedback.set(np.array([feedback]))
                graph.loss.loss.set(np.array([LOSSES.index(rules.loss)]))
                graph.loss.margin.set(np.array([rules.margin]))

            run.ask(put)
            run.run(n + DRAIN)
            learned = run.ask(lambda: [layer.learned() for layer in graph.layers])
            after, _ = oracle(NETWORK, replace(state, step=i * (n + DRAIN)), *parts[i], rules)
            found = as_state(learned, 0)
            if "feedback" in change and not change["feedback"]:
                assert np.array_equal(found.S[0], state.S[0])
            else:
                assert_equal(found, after)
            moved.append(any((a != b).any() for a, b in zip(state.S, found.S, strict=True)))
            state = found

        def too_wide_a_margin():
            run.ask(lambda: graph.loss.margin.set(np.array([9])))
            run.run(1)  # Lava confirms a set before the model has looked at it

        with pytest.raises(EngineError, match=r"^loss: SettingError: margin=9: want eighths of the target"):
            too_wide_a_margin()
    assert all(moved)


def test_a_convolution_learns_from_labels(sparse_images, nothing_left):
    """Random feedback, signed inputs, a pool, a port reshaped; and a Var seen by a Monitor."""
    network = Network((Conv(3, 3, 2), MaxPool(2), Flatten(), DenseSpec(4)), (9, 9, 2), signed_input=True)
    rules, n = replace(ONLINE, feedback="random"), 40
    images, labels = sparse_images(n, network.input_shape, 4)
    codes, hot = streams(network, (images, labels))
    codes = codes.reshape(9, 9, 2, -1)
    targets = np.where(hot.any(axis=0), hot.argmax(axis=0), -1)[None]
    source, target = RingBuffer(data=codes), RingBuffer(data=targets)
    first = WageConv(
        (9, 9, 2), Conv(3, 3, 2), MaxPool(2), clock=Stream(4), rules=rules, signed_in=True, seed=3
    )
    last = WageDense((12, 4), last=True, index=1, clock=Stream(2, 1), rules=rules, seed=3)
    loss = Loss((12, 4), delay=2, targets="labels", rules=rules)
    source.s_out.connect(first.a_in)
    first.a_out.reshape((12,)).connect(last.a_in)
    last.z_out.connect(loss.z_in)
    target.s_out.connect(loss.y_in)
    loss.e_out.connect(last.e_in)
    last.e_out.reshape(first.e_in.shape).connect(first.e_in)
    monitor = Monitor()
    monitor.probe(last.S, n + DRAIN)
    with Graph(source) as run:
        run.run(n + DRAIN)
        learned = run.ask(lambda: [layer.learned() for layer in (first, last)])
        seen = run.ask(monitor.get_data)[last.name]["S"].reshape(n + DRAIN, 12, 4)
    state, _ = oracle(network, initial_state(network, 3), images, labels, rules)
    assert_equal(as_state(learned, 0), state)
    assert np.array_equal(seen[-1], state.S[1])
    assert (seen[0] == initial_state(network, 3).S[1]).all()
    assert (seen[:-1] != seen[1:]).any()


class Data:
    """What Lava's Dataloader wants."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i][:, None], int(self.labels[i])


def test_beside_lavas_own(nothing_left):
    """Dataloader, Sigma, Delta, SigmaDelta, Dense, LIF, Monitor, Injector, Extractor: beside one of ours."""
    rng, steps = np.random.default_rng(0), 12
    images, labels = rng.integers(0, 100, (steps, 6)), rng.integers(0, 3, steps)
    weights = rng.integers(-1, 2, (6, 4))
    loader = SpikeDataloader(dataset=Data(images, labels), interval=1)
    frozen, learns = FrozenDense(weights), WageDense((4, 3), last=True, index=1)
    loss, counter = Loss((4, 3), delay=2, targets="labels"), LavaDense(weights=np.eye(4, dtype=int) * 3)
    lif, sigma, delta = (
        LIF(shape=(4,), vth=400, du=4095, dv=4095),
        Sigma(shape=(4,)),
        Delta(shape=(3,), vth=0),
    )
    sdn = SigmaDelta(shape=(4,), vth=0)
    injector, extractor = Injector(shape=(6,)), Extractor(shape=(3,))
    second, after_sigma = FrozenDense(weights), FrozenDense(rng.integers(-1, 2, (4, 3)), last=True)
    seen = {name: Monitor() for name in ("codes", "spikes", "z", "delta", "sdn")}
    loader.s_out.connect(frozen.a_in)
    loader.ground_truth.connect(loss.y_in)
    frozen.a_out.connect(learns.a_in)
    learns.z_out.connect(loss.z_in)
    loss.e_out.connect(learns.e_in)
    frozen.a_out.connect(counter.s_in)
    counter.a_out.connect(lif.a_in)
    learns.z_out.connect(delta.a_in)
    frozen.a_out.connect(sdn.a_in)
    injector.out_port.connect(second.a_in)
    second.a_out.connect(sigma.a_in)
    sigma.s_out.connect(after_sigma.a_in)
    after_sigma.z_out.connect(extractor.in_port)
    seen["codes"].probe(frozen.a_out, steps)
    seen["spikes"].probe(lif.s_out, steps)
    seen["z"].probe(learns.z_out, steps)
    seen["delta"].probe(delta.s_out, steps)
    seen["sdn"].probe(sdn.s_out, steps)
    sent = rng.integers(0, 3, (steps, 6))
    # one graph of two parts: the Injector's is connected by a Monitor's
    with Graph(loader) as run:
        run.run(steps)
        found = {}
        for name, monitor in seen.items():
            ((found[name],),) = (list(d.values()) for d in run.ask(monitor.get_data).values())
        learned = run.ask(learns.learned)
    shift = frozen.proc_params["layer"].z_shift
    codes = np.zeros((steps, 4), int)
    for t in range(2, steps):  # the loader's first data come after its first step, the answer a step later
        z = images[t - 2] @ weights / 2**shift
        codes[t] = np.clip(np.rint(z), 0, 127)
    assert np.array_equal(found["codes"], codes)
    assert codes.any()
    currents = np.zeros((steps, 4), int)
    currents[1:] = codes[:-1] * 3
    assert np.array_equal(found["spikes"], currents > 400)
    nothing = np.zeros((1, 4), int)
    assert np.array_equal(found["sdn"], np.diff(np.maximum(codes.cumsum(axis=0), 0), axis=0, prepend=nothing))
    assert np.array_equal(found["delta"], np.diff(found["z"], axis=0, prepend=nothing[:, :3]))
    assert found["z"].any()
    assert (learned["S"] != WageDense((4, 3), last=True, index=1).S.init).any()
    with Graph(injector) as run:
        assert run._children.channels == "semaphore"
        out = []
        for message in sent:
            injector.send(message)
            run.run(1)
            out.append(extractor.receive())
    ones, total, expected = np.zeros(4, int), np.zeros(4, int), []
    pending = np.zeros(3, int)
    for message in sent:
        total = total + ones
        ones = np.clip(np.rint(message @ weights / 2**shift), 0, 127).astype(int)
        expected.append(pending)
        pending = total @ after_sigma.V.init
    assert np.array_equal(out, expected)


def test_frozen_layers_answer_as_numpy_predicts(sparse_images, nothing_left):
    network = Network((Conv(4, 3), MaxPool(2), Flatten(), DenseSpec(5)), (6, 6, 1), "3888")
    images, _ = sparse_images(15, (6, 6, 1), 5)
    state = initial_state(network, 1)
    V = [
        visible_weights(layer, S).reshape(layer.weight_shape)
        for layer, S in zip(network.layers, state.S, strict=True)
    ]
    source = RingBuffer(data=np.moveaxis(network.encode(images).astype(int), 0, -1))
    conv, dense = FrozenConv(V[0], (6, 6), MaxPool(2), bits="3888"), FrozenDense(V[1], bits="3888", last=True)
    monitor = Monitor()
    source.s_out.connect(conv.a_in)
    conv.a_out.reshape((36,)).connect(dense.a_in)
    monitor.probe(dense.z_out, 17)
    with Graph(source) as run:
        run.run(17)
        ((seen,),) = (list(d.values()) for d in run.ask(monitor.get_data).values())
    assert np.array_equal(seen[2:], predict(network, state, network.encode(images)))


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: WageDense((4, 3), lanes=4), SettingError, "lanes=4: want 1"),
        (
            lambda: WageDense((4, 3), clock=Stream(delay=1)),
            SettingError,
            "delay=1: want a whole number of time",
        ),
        (lambda: WageDense((4, 3), clock=Stream(start=-1)), SettingError, "start=-1: want a whole number"),
        (lambda: WageDense((4, 3), index=-1), SettingError, "index=-1: want a whole number >= 0"),
        (
            lambda: WageDense((4, 3), rules=Rules(batch=4, shift="held")),
            SettingError,
            "batch=4: a layer that stands",
        ),
        (
            lambda: WageDense((4, 3), rules=Rules(batch=1)),
            SettingError,
            "shift='batch': a layer that stands alone",
        ),
        (
            lambda: WageDense((4, 3), rules=replace(ONLINE, feedback="direct")),
            SettingError,
            "feedback='direct': a layer that stands alone has 'transposed' or 'random' only",
        ),
        (
            lambda: WageDense((4, 3), learned={"S": np.zeros((3, 4))}),
            SettingError,
            r"layer 0 3FC: stored weights of shape \(3, 4\): want \(4, 3\)",
        ),
        (lambda: Loss((4, 3), targets="words"), SettingError, "targets='words': want one-hot or labels"),
        (lambda: Loss((4, 3), delay=-1), SettingError, "delay=-1: want a whole number"),
        (lambda: FrozenDense(np.full((4, 3), 2)), BitWidthError, r"frozen 3FC: weight 2: want .* -1..1"),
        (lambda: FrozenDense(np.full((4, 3), 0.5)), BitWidthError, r"frozen 3FC: weight 0.5: want whole"),
        (
            lambda: RingBuffer(data=np.zeros((5, 9))).s_out.connect(FrozenDense(np.ones((4, 3))).a_in),
            AssertionError,
            r"s_out and frozen 3FC a_in: Shapes \(5,\) and \(4,\) are incompatible",
        ),
        (
            lambda: WageDense((6, 4)).a_out.connect(WageDense((3, 2), index=1).a_in),
            AssertionError,
            r"layer 0 4FC a_out and layer 1 2FC a_in: Shapes \(4,\) and \(3,\) are incompatible",
        ),
    ],
)
def test_what_cannot_be_built(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_a_port_that_nobody_sends_to_is_told_before_the_graph_runs(nothing_left):
    source, layer, loss = RingBuffer(data=np.zeros((4, 9))), WageDense((4, 3), last=True), Loss((4, 3))
    source.s_out.connect(layer.a_in)
    with pytest.raises(
        EngineError, match=r"^layer 0 3FC: nothing sends to its port e_in; a layer learns from a"
    ):
        Graph(source)
    layer.z_out.connect(loss.z_in)
    loss.e_out.connect(layer.e_in)
    with pytest.raises(EngineError, match=r"^loss: nothing sends to its port y_in; it wants a target"):
        Graph(source)
    with pytest.raises(EngineError, match=r"^frozen 3FC: nothing sends to its port a_in"):
        Graph(FrozenDense(np.ones((4, 3))))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (128, r"^frozen 3FC: BitWidthError: frozen 3FC: a_in=128: want whole numbers in 0..127$"),
        (-1, r"frozen 3FC: a_in=-1: want whole numbers in 0..127"),
    ],
)
def test_a_message_past_its_width_is_told(value, message, nothing_left):
    data = np.zeros((4, 9), int)
    data[2, 5] = value
    source, frozen = RingBuffer(data=data), FrozenDense(np.ones((4, 3), int))
    source.s_out.connect(frozen.a_in)
    with Graph(source) as run:
        run.run(5)
        with pytest.raises(EngineError, match=message):
            run.run(1)


@pytest.mark.parametrize(
    ("port", "value", "message"),
    [
        ("a_in", 128, r"^layer 0 3FC: BitWidthError: layer 0 3FC: a_in=128: want whole numbers in 0..127$"),
        ("y_in", 3, r"^loss: BitWidthError: loss: y_in=3: want whole numbers in -1..2$"),
    ],
)
def test_a_learning_layer_tells_it_too(port, value, message, nothing_left):
    codes, labels = np.zeros((4, 9), int), np.zeros((1, 9), int)
    (codes if port == "a_in" else labels)[0, 5] = value
    source, targets = RingBuffer(data=codes), RingBuffer(data=labels)
    layer, loss = WageDense((4, 3), last=True), Loss((4, 3), delay=1, targets="labels")
    source.s_out.connect(layer.a_in)
    layer.z_out.connect(loss.z_in)
    targets.s_out.connect(loss.y_in)
    loss.e_out.connect(layer.e_in)
    with Graph(source) as run:
        run.run(5)
        with pytest.raises(EngineError, match=message):
            run.run(1)


def test_a_target_of_two_classes_is_told(nothing_left):
    ones = np.zeros((3, 4), int)
    ones[:2, 3] = 1
    source, frozen = RingBuffer(data=np.zeros((4, 4), int)), FrozenDense(np.ones((4, 3), int), last=True)
    targets, loss = RingBuffer(data=ones), Loss((4, 3))
    source.s_out.connect(frozen.a_in)
    frozen.z_out.connect(loss.z_in)
    targets.s_out.connect(loss.y_in)
    with (
        Graph(source) as run,
        pytest.raises(EngineError, match=r"^loss: DataError: loss: y_in has 2 ones: want"),
    ):
        run.run(4)


def test_steady_fills_silence(nothing_left):
    from mappings.engines.lava.engine import LavaEngine

    network, rules = (
        Network((DenseSpec(3),), (4,)),
        Rules(batch=4, shift="held", update="ternary", pipelined=True),
    )
    images, labels = np.full((8, 4), 255, np.uint8) // np.arange(1, 5, dtype=np.uint8), np.arange(8) % 3
    monitor, weights = Monitor(), Monitor()
    engine = LavaEngine.build(network, rules)
    with engine:
        with pytest.raises(EngineError, match=r"has not started: call its start\(\)"):
            engine.train(images, labels, 3)
        steps = 2 * engine.schedule.steps(learning=True) + engine.schedule.steps(learning=False)
        engine.attach(monitor, engine.layers[0].z_out, steps)
        engine.attach(weights, engine.layers[0].S, steps)
        engine.start()
        with pytest.raises(EngineError, match="attach: the graph has started"):
            engine.attach(Monitor(), engine.layers[0].z_out, steps)
        logits = engine.train(images, labels, 3)
        seen = engine.read(monitor)[: steps - 5].reshape(2, -1, 1, 3)
        assert np.array_equal(seen[:, 2:6].reshape(8, 3), logits)
        assert not seen[:, [0, 1]].any()
        state = engine.state  # which takes time steps, too
        assert np.array_equal(engine.read(weights)[-1], state.S[0])
    assert isinstance(Steady((2,)), Steady)
