"""While it learns: another step size for each layer, a frozen one, and what every layer sends and changes."""

from experiments import datasets
from wage_neuro import Control, Network, NumpyEngine, Rules


def main() -> None:
    data = datasets.load("digits")
    network = Network.parse("16C3-MP2-64FC", (8, 8, 1), classes=10)
    rules = Rules(batch=1, shift="held", update="ternary", loss="one-sided", margin=3)
    with NumpyEngine(network, rules, seed=0) as engine:
        engine.train(data.train_images[:600], data.train_labels[:600], Control(log2_eta=(1, 2, 3)))
        frozen = engine.state.S[0]
        engine.watch(every=10)
        engine.train(data.train_images[600:1200], data.train_labels[600:1200], Control(log2_eta=(None, 2, 3)))
        activity = engine.activity()
        engine.watch(0)
        assert (engine.state.S[0] == frozen).all()
        right = engine.predict(data.test_images).argmax(axis=1) == data.test_labels
    for what in ("spikes", "errors", "updates"):
        counts = ", ".join(f"{n:.1f}" for n in activity.a_sample(what))
        print(f"{what} a sample, layer by layer: {counts}")
    print(f"{network}: {100 * right.mean():.1f} % after 1,200 images, each seen once")


if __name__ == "__main__":
    main()
