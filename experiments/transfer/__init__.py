"""Transfer: what a network has learned of one data set helps it to learn another from few examples."""
