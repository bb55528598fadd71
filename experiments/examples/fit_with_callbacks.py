"""Train in Python: look at each epoch, stop when nothing improves, keep the best network."""

import wage_neuro
from experiments import datasets
from wage_neuro import Network, NumpyEngine, Rules, save_best, stop_early
from wage_neuro.fitting import Seen


def tell(seen: Seen) -> None:
    row = seen.rows[-1]
    print(f"epoch {row['epoch']}: training error {row['train_error']:.3f}, held out {row['error']:.3f}")


def main() -> None:
    data = datasets.load("digits").split(200)  # 200 training images are held out in place of the test images
    network = Network.parse("64FC", (8, 8, 1), classes=10)
    with NumpyEngine(network, Rules(batch=32), seed=0) as engine:
        wage_neuro.fit(
            engine,
            data.train_images,
            data.train_labels,
            epochs=30,
            eta="8, 1@6",
            held_out=(data.test_images, data.test_labels),
            callbacks=[tell, stop_early(patience=4), save_best("best.npz")],
        )
    best = wage_neuro.load("best.npz")
    error = (best.predict(data.test_images).argmax(axis=1) != data.test_labels).mean()
    print(best.metrics)
    print(f"best.npz: error {error:.3f} on what was held out")


if __name__ == "__main__":
    main()
