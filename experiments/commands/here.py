"""What there is on this machine: `wage-neuro data` and `wage-neuro engines`."""

from __future__ import annotations

from experiments import datasets
from experiments.commands.command_line import console, show_table
from experiments.commands.options import Found, command_of


def data_sets(where: Found) -> None:
    """List the data sets: what they are, where they were found, or how to get them."""
    for row in datasets.locations(where.data_dir):
        console.print(row.name, style="bold", end="")
        console.print(f"  {row.what}\n  found    ", end="")
        found = row.found or "not here; " + ("downloaded at first use, or " * row.downloads) + "put it there"
        console.print(str(found), style="green" if row.found else "yellow")
        console.print(f"  source   {row.source}\n  licence  {row.licence}\n")
    console.print(
        "Any .npz with images (n, height, width[, channels]) uint8 and labels can be given too:"
        " keys images, labels or train_images, train_labels, test_images, test_labels; val_images, val_labels"
        " for --validation, and a bool `signed`. So can a folder with an .npy of each."
    )


def engines() -> None:
    """Say which engines are here, what they run on, and how fast each learns one small net."""
    from experiments.commands import engine_report

    for line in engine_report.installation():
        console.print(line, soft_wrap=True)
    show_table(engine_report.speeds())


DATA_SETS, ENGINES = command_of(data_sets), command_of(engines)
