import processes  # noqa: F401  # before any module of Lava's
