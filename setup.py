"""The build step of a wheel: it carries the compiled kernels, or none where there is no compiler."""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

KERNELS = Path("wage_neuro/kernels")
build = run_path(str(KERNELS / "build.py"))  # by its path: numpy need not be here


class BuildWithKernels(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            try:
                print(build["build"](Path(self.build_lib) / KERNELS / "libwage.so"))
            except OSError as error:
                print(error, file=sys.stderr)


class PlatformWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]  # no Python ABI


class PlatformDistribution(Distribution):
    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildWithKernels, "bdist_wheel": PlatformWheel}, distclass=PlatformDistribution)
