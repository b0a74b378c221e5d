"""Builds the compiled kernels where there is a C++ compiler; without one, the package installs all the same.

Everything else about the package stands in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

KERNELS = Path("src/hotlap/native/kernels")
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
# One source, compiled once for each instruction set; which of them is used is decided when the library is loaded.
INSTRUCTION_SETS = {
    "generic": [],
    **({"avx2": ["-mavx2", "-mfma"]} if X86 else {}),
    **({"avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]} if X86 else {}),
}
if X86 and sys.platform.startswith("linux"):
    # Matrix registers beside whichever of the others.
    INSTRUCTION_SETS["amx"] = [*INSTRUCTION_SETS["avx512"], "-mavx512bw", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"]
    # GCC 12 warns of its own headers.
    INSTRUCTION_SETS["amx"] += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-ffp-contract=fast", "-Wall", "-Wno-unknown-pragmas", "-g0"]
# For the job that runs the tests under sanitizers.
FLAGS += os.environ.get("HOTLAP_CXXFLAGS", "").split()
DEFINED = [f"-DHL_WITH_{name.upper()}" for name in INSTRUCTION_SETS if name != "generic"]


class BuildKernels(build_ext):
    """Compiles each instruction set with flags of its own, then links all of them into one library."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return where the library goes; it knows nothing of Python, so its name says nothing of a version."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Build the library; a failure is reported and the package goes without."""
        sources = {path.name: [] for path in sorted(KERNELS.glob("*.cpp")) if not path.name.startswith("isa_")}
        sources |= {f"isa_{name}.cpp": flags for name, flags in INSTRUCTION_SETS.items()}

        def compiled(source: str) -> list[str]:
            return self.compiler.compile(
                [str(KERNELS / source)],
                output_dir=self.build_temp,
                extra_postargs=[*FLAGS, *DEFINED, *sources[source]],
                depends=ext.depends,
            )

        # Each takes up to half a minute. The folder is made first, so that they need not all make it.
        Path(self.build_temp, KERNELS).mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            objects = [name for names in threads.map(compiled, sources) for name in names]
        self.compiler.link_shared_object(
            objects,
            self.get_ext_fullpath(ext.name),
            libraries=["pthread"] if sys.platform.startswith("linux") else [],
            extra_postargs=os.environ.get("HOTLAP_CXXFLAGS", "").split(),
            build_temp=self.build_temp,
            target_lang="c++",
        )


class Wheel(bdist_wheel):
    """A wheel for one platform and every Python 3, since the library is loaded with ctypes."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags for Python, its binary interface and the platform."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(
            "hotlap.native._kernels",
            sources=[str(path) for path in sorted(KERNELS.glob("*.cpp"))],
            depends=[str(path) for path in sorted(KERNELS.glob("*.h"))],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
