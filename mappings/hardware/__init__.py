"""Hardware of our own: descriptions that open tools turn into a chip."""
