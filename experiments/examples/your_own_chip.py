"""A chip of your own: the numbers in which it differs from one that is known, and whether a network fits it.

`wage-neuro map RUN --chip mine.toml` does it for a trained network, with a picture and what a sample costs.
"""

from pathlib import Path

from mappings.chips.chip import Chip
from mappings.chips.limits import broken
from mappings.chips.placement import DoesNotFit, Use, place
from wage_neuro import Network, Rules

MINE = """
name = "Sixteen"
base = "loihi2"
# each number has a unit, a grade of evidence (S seen, 2 second-hand, ? unverified) and a source: say yours
cores = { value = 16, unit = "cores", grade = "?", source = "a plan" }
mesh_columns = { value = 4, unit = "tiles", grade = "?", source = "a plan" }
mesh_rows = { value = 4, unit = "tiles", grade = "?", source = "a plan" }
core_neurons = { value = 256, unit = "neurons a core", grade = "?", source = "a plan" }
core_memory = { value = 262_144, unit = "bits a core", grade = "?", source = "a plan" }
"""


def main() -> None:
    Path("mine.toml").write_text(MINE)
    chip = Chip.load("mine.toml")
    for hidden in ("256FC", "4096FC"):
        network = Network.parse(hidden, (28, 28, 1), classes=10)
        use = Use(training=False, rules=Rules())
        try:
            placed = place(network, chip, use)
            room = f"{placed.cores} cores, of {placed.chips} chip(s) of {chip.cores}"
        except DoesNotFit as error:
            room = str(error)
        limits = "; ".join(f"{each.where}: {each.quantity}" for each in broken(network, chip, use))
        print(f"{network} on {chip.name}: {room}; limits that it breaks: {limits or 'none'}")


if __name__ == "__main__":
    main()
