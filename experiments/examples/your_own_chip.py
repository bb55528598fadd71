"""A chip of your own: its numbers in a file, and whether a network fits it.

`wage-neuro map RUN --chip mine.toml` does it for a trained network, with a picture and what a sample costs.
"""

import re
from importlib.resources import files
from pathlib import Path

from mappings.chips.chip import Chip
from mappings.chips.limits import broken
from mappings.chips.placement import DoesNotFit, Use, place
from wage_neuro import Network, Rules

CHANGED = {"cores": 16, "mesh_columns": 4, "mesh_rows": 4, "core_neurons": 256, "core_memory": 262144}


def main() -> None:
    text = (files("mappings.chips") / "loihi2.toml").read_text()
    text = text.replace('name = "Loihi 2"', 'name = "Sixteen"')
    for name, value in CHANGED.items():  # each number has a unit, a grade of evidence and a source: say yours
        text = re.sub(rf"(?m)^{name} = {{ value = [\d_]+", f"{name} = {{ value = {value}", text)
    Path("mine.toml").write_text(text)
    chip = Chip.load("mine.toml")
    for hidden in ("256FC", "4096FC"):
        network = Network.parse(hidden, (28, 28, 1), classes=10)
        use = Use(training=False, rules=Rules())
        try:
            placed = place(network, chip, use)
            room = f"{placed.cores} of {chip.cores} cores, {placed.chips} chips"
        except DoesNotFit as error:
            room = str(error)
        limits = "; ".join(f"{each.where}: {each.quantity}" for each in broken(network, chip, use))
        print(f"{network} on {chip.name}: {room}; limits that it breaks: {limits or 'none'}")


if __name__ == "__main__":
    main()
