"""Read a run back that `wage-neuro train` has left in a folder, and plot what it learned.

The folder is the first word of the command line; without one a small run is made.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import wage_neuro
from experiments.runs.training import Config, Run
from wage_neuro import Rules


def small_run() -> Path:
    run = Run.start(
        Config(data="digits", network="32FC", epochs=4, rules=Rules(batch=32)), Path("runs/small")
    )
    with run.engine("numpy") as engine:
        run.fit(engine)
    return run.folder


def main(folder: str | None = None) -> None:
    run = wage_neuro.load(folder or small_run())
    print(run.network.summary())
    print(run.metrics)  # a pandas DataFrame where pandas is installed
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots(1, len(run.V))
    for layer, V, panel in zip(run.network.layers, run.V, axes, strict=True):
        panel.imshow(V.reshape(-1, V.shape[-1]), cmap="RdBu", aspect="auto", interpolation="nearest")
        panel.set_title(f"{layer}: {100 * (V != 0).mean():.0f} % of the weights are not 0")
    figure.savefig("weights.png")
    print("weights.png: every visible weight, -1, 0 or 1")


if __name__ == "__main__":
    main(*sys.argv[1:])
