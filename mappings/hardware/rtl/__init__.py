"""A learning neurocore as synthesizable logic, equal to the numpy engine in every bit.

One module for each part of the structural model, see README.md in the folder above. It needs Amaranth:
pip install "wage-neuro[rtl]".
"""
