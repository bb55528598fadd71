"""The arithmetic under the layers.

`numpy_kernels` has all of it; `native` loads what `build` makes of the C++ in `source`. Where there is no
library, numpy does all the work.
"""
