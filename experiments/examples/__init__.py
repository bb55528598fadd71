"""Short scripts, one use each: `python -m experiments.examples.NAME`."""
