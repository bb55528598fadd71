"""Brian2, the second simulator: `equations` in its language, `objects` it is made of, the `engine`."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "_get_vc_env is private", UserWarning)  # of a newer setuptools
    import brian2 as brian2
