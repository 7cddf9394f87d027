"""Builds the optional C kernel; without a compiler the numpy path gives the same answers."""

import sysconfig

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class StableAbiWheel(bdist_wheel):
    """Tags the wheel for every CPython from 3.11 on."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return (python, abi, platform)."""
        python, abi, platform = super().get_tag()
        if python.startswith("cp") and not FREE_THREADED:
            return "cp311", "abi3", platform
        return python, abi, platform


KERNEL = Extension(
    "classmark.kernels._kernel",
    sources=["src/classmark/kernels/c/module.c"],
    depends=[
        f"src/classmark/kernels/c/{name}.h"
        for name in ("fold", "order", "text", "score", "authors", "fit")
    ],
    # Debug information names the folder of the build; the same source gives the same bytes.
    extra_compile_args=["/O2"] if sysconfig.get_platform().startswith("win") else ["-O3", "-g0"],
    py_limited_api=not FREE_THREADED,
    optional=True,
)

setup(ext_modules=[KERNEL], cmdclass={"bdist_wheel": StableAbiWheel})
