"""Builds the compiled kernels where there is a C++ compiler; without one, the package installs all the same.

Everything else about the package stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("src/hotlap/native/kernels")
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
# One source, compiled once for each instruction set; which of them is used is decided when the library is loaded.
INSTRUCTION_SETS = {
    "generic": [],
    **({"avx2": ["-mavx2", "-mfma"]} if X86 else {}),
    **({"avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]} if X86 else {}),
}
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=fast", "-Wall", "-Wno-unknown-pragmas"]
# For the job that runs the tests under sanitizers.
FLAGS += os.environ.get("HOTLAP_CXXFLAGS", "").split()
DEFINED = [f"-DHL_WITH_{name.upper()}" for name in INSTRUCTION_SETS if name != "generic"]


class BuildKernels(build_ext):
    """Compiles each instruction set with flags of its own, then links all of them into one library."""

    def build_extension(self, ext: Extension) -> None:
        """Build the library; a failure is reported and the package goes without."""
        sources = {"api.cpp": [], "layout.cpp": []}
        sources |= {f"isa_{name}.cpp": flags for name, flags in INSTRUCTION_SETS.items()}
        objects = []
        for source, flags in sources.items():
            objects += self.compiler.compile(
                [str(KERNELS / source)],
                output_dir=self.build_temp,
                extra_postargs=[*FLAGS, *DEFINED, *flags],
                depends=ext.depends,
            )
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["pthread"] if sys.platform.startswith("linux") else [],
            extra_postargs=os.environ.get("HOTLAP_CXXFLAGS", "").split(),
            build_temp=self.build_temp,
            target_lang="c++",
        )


setup(
    ext_modules=[
        Extension(
            "hotlap.native._kernels",
            sources=[str(path) for path in sorted(KERNELS.glob("*.cpp"))],
            depends=[str(path) for path in sorted(KERNELS.glob("*.h"))],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
