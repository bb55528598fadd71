"""What happens when processes are killed, disks fail and files lie: `python -m experiments.campaign`."""
