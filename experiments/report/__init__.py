"""One HTML file that shows a run: `wage-neuro report`."""
