"""Brian2, the second simulator: `equations` in its language, `objects` it is made of, the `engine`."""

import signal
import warnings

_hears = signal.getsignal(signal.SIGINT)
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "_get_vc_env is private", UserWarning)  # of a newer setuptools
    import brian2 as brian2

if brian2._int_handler is signal.getsignal(signal.SIGINT) and not callable(_hears):
    signal.signal(signal.SIGINT, _hears)  # Brian2's own hears Ctrl-C where nobody should, and fails
