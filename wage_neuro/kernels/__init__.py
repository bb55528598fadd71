"""The arithmetic under the layers: `numpy_kernels` has all of it, `native` loads what is compiled from `source`.

`build` makes the library. Where there is none, numpy does all the work.
"""
