from processes.lava_compat import mend

mend()  # here, so that no module of Lava's is imported before
