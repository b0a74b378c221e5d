"""Python's declarations of the kernels' C interface are those of ``api.h``: a difference would be silent corruption."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotlap.native import library as lib

KERNELS = Path(__file__).parents[2] / "src" / "hotlap" / "native" / "kernels"
_COMMENT = re.compile(r"//[^\n]*")
API = _COMMENT.sub("", (KERNELS / "api.h").read_text(encoding="utf-8"))
NET = _COMMENT.sub("", (KERNELS / "net.h").read_text(encoding="utf-8"))

SCALARS: dict[str, Any] = {
    "int16_t": ctypes.c_int16, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "float": ctypes.c_float,
}  # fmt: skip
STRUCTS = re.findall(r"typedef struct \{[^}]*\} (hl_\w+);", API)
"""``hl_layer`` is ``Layer`` in library.py, and so on."""
ERRORS = {"HL_BAD_ARGUMENT": -1, "HL_NO_MEMORY": -2}


def fields(struct: str) -> list[tuple[str, Any, tuple[int, ...]]]:
    """Name, type and shape of every field of a struct of ``api.h``, in order."""
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {struct};", API)
    assert body is not None, f"api.h has no {struct}"
    found = []
    for kind, names in re.findall(r"(\w+)\s+([^;]+);", body[1]):
        for name in names.split(","):
            plain, *sides = re.findall(r"\w+", name)
            found.append((plain, SCALARS[kind], tuple(map(int, sides))))
    return found


def functions() -> dict[str, tuple[str, list[str]]]:
    """Type of the result and of every argument of each function of ``api.h``."""
    found = {}
    for result, name, arguments in re.findall(r"HL_EXPORT\s+([\w\s*]+?)\s*\b(\w+)\(([^)]*)\);", API):
        each = [] if arguments.strip() == "void" else [" ".join(a.split()) for a in arguments.split(",")]
        found[name] = result, [re.sub(r"\s*\b\w+$", "", argument) for argument in each]
    return found


def accepts(declared: Any, c_type: str) -> bool:
    """Whether a ctypes type passes what a C type asks for."""
    plain = c_type.replace("const ", "").strip()
    if plain == "void":
        return declared is None
    if plain in SCALARS:
        return declared is SCALARS[plain]
    if plain == "char*":
        return declared is ctypes.c_char_p
    if declared is ctypes.c_void_p:
        return plain.endswith("*") or f"(*{plain})" in API
    pointed = getattr(declared, "_type_", None)
    if plain.endswith("**"):
        return pointed is ctypes.c_void_p
    if plain.endswith("*"):
        return pointed is SCALARS.get(plain.removesuffix("*"))
    return f"(*{plain})" in API and issubclass(declared, ctypes._CFuncPtr)


@pytest.mark.parametrize("struct", STRUCTS)
def test_a_struct_has_the_same_fields_at_the_same_places(struct: str) -> None:
    dtype, expected = getattr(lib, struct.removeprefix("hl_").title()), fields(struct)
    found = []
    for name in dtype.names or ():
        base, shape = dtype[name].subdtype or (dtype[name], ())
        found.append((name, base, shape))
    assert found == [(name, np.dtype(kind), shape) for name, kind, shape in expected]
    # The compiler's own layout, gaps included.
    laid_out = type(
        struct, (ctypes.Structure,), {"_fields_": [(n, _array(kind, shape)) for n, kind, shape in expected]}
    )
    assert dtype.itemsize == ctypes.sizeof(laid_out)
    offsets = {name: getattr(laid_out, name).offset for name, _, _ in expected}
    assert {name: place[1] for name, place in (dtype.fields or {}).items()} == offsets


def _array(kind: Any, shape: tuple[int, ...]) -> Any:
    for side in reversed(shape):
        kind = kind * side
    return kind


def test_constants_are_the_same() -> None:
    enums = {name: int(value) for name, value in re.findall(r"(HL_\w+) = (-?\d+)", API)}
    declared = {name: getattr(lib, name.removeprefix("HL_"), None) for name in enums.keys() - ERRORS.keys()}
    assert enums == declared | ERRORS
    defined = {name: int(value) for name, value in re.findall(r"#define (HL_\w+) (\d+)", API)}
    assert defined == {"HL_ABI": lib.ABI, "HL_MAX_CHANNELS": lib.CHANNELS}
    limits = {name: int(value) for name, value in re.findall(r"constexpr int (kMax\w+) = (\d+);", NET)}
    assert limits == {"kMaxLayers": lib.LAYERS, "kMaxThreads": lib.THREADS}


def test_the_same_functions_are_there() -> None:
    assert lib._SIGNATURES.keys() == functions().keys()


@pytest.mark.parametrize("name", lib._SIGNATURES)
def test_a_function_takes_and_returns_the_same(name: str) -> None:
    (result, arguments), (c_result, c_arguments) = lib._SIGNATURES[name], functions()[name]
    assert accepts(result, c_result), f"{result} for {c_result}"
    assert len(arguments) == len(c_arguments), c_arguments
    for place, (declared, c_type) in enumerate(zip(arguments, c_arguments, strict=True)):
        assert accepts(declared, c_type), f"argument {place}: {declared} for {c_type}"


@pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")
def test_the_library_holds_every_function() -> None:
    library = lib.kernels()
    assert isinstance(library, ctypes.CDLL)
    for name in functions():
        assert getattr(library, name)
