"""Learning Processes in Lava graphs of one's own: `python -m experiments.examples.lava.NAME`."""
