"""A command line that starts fast: what PyTorch imports but a short run never needs comes late, or not at all.

``import torch`` executes modules that only compiling, exporting and tensors without memory use: about a third of its
time. ``defer`` puts stand-ins in their place, and ``complete`` executes them; everything that may need them calls it
first. Only the command line defers, for the verbs that gain by it, and only with a PyTorch that this was tested with.
``HOTLAP_EAGER_IMPORTS=1`` switches it off.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

SWITCH = "HOTLAP_EAGER_IMPORTS"
"""Environment variable that, set to anything but 0, leaves imports as they are."""

TESTED = ("2.13.0+cpu",)
"""Versions of torch whose imports may be deferred; builds for GPUs are others, since nobody has tried it with one."""

VERBS = ("train", "runs", "doctor")
"""Verbs that may come to their end without what is deferred."""

DEFERRED = ("torch.export", "torch._meta_registrations")
"""Modules that come late, in the order in which torch itself executes them."""

_MARK = "__dynamo_disable"


class _Late(ModuleType):
    """A module that executes itself when something is looked for in it.

    ``importlib.util.LazyLoader`` would not do: it executes a module at the sight of ``__file__``, which ``inspect``
    asks of every module, and torch asks ``inspect`` while it is imported.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _execute(self)
        return getattr(self, name)


class _LateLoader:
    """Makes the stand-in, and keeps the loader that executes the module."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Late(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "torch._meta_registrations":
            # torch refuses to make generators before this, which else a module that is executed with this one does.
            opaque = importlib.import_module("torch._opaque_base").OpaqueBaseMeta
            importlib.import_module("torch._C")._set_generator_metaclass(opaque)


class _Present:
    """Stands in for the loader of a module that is there already, while it is loaded a second time."""

    def __init__(self, module: ModuleType, loader: Loader | None) -> None:
        self.module, self.loader = module, loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader


class _Finder:
    """Finds the deferred modules, ahead of all other finders."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        parent = sys.modules.get(name.rpartition(".")[0])
        if type(parent) is _Late:
            # A package comes before its parts, and may import the one asked for; twice would be wrong.
            _execute(parent)
            present = sys.modules.get(name)
            if present is not None and present.__spec__ is not None:
                # The import system returns to the module's own specification, whatever it is given.
                present.__spec__.loader = _Present(present, present.__spec__.loader)  # type: ignore[assignment]
                return present.__spec__
        spec = PathFinder.find_spec(name, path, target) if name in DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)  # type: ignore[assignment]
        return spec


_lock = threading.RLock()
"""Two threads must not execute a module at once."""


def _execute(module: ModuleType) -> None:
    """Execute a deferred module, unless that has begun."""
    with _lock:
        spec = module.__spec__
        if type(module) is not _Late or spec is None:
            return
        loader = spec.loader.loader  # type: ignore[union-attr]
        module.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader = module.__loader__ = loader
        loader.exec_module(module)


def defer(arguments: Sequence[str]) -> bool:
    """Let the costly modules come late, for the rest of this process or until ``complete``.

    To be called before torch is imported.

    Args:
        arguments: of the command line.

    Returns:
        Whether it will be so: not with another verb, another torch, torch already there, or where the user forbids it.
    """
    if not arguments or arguments[0] not in VERBS or os.environ.get(SWITCH, "0") not in ("", "0"):
        return False
    if "torch" in sys.modules or (home := _home_of_torch()) is None or _version_in(home) not in TESTED:
        return False
    sys.meta_path.insert(0, _Finder)
    return True


def complete() -> None:
    """Execute all that was deferred; nothing where nothing was, or torch is not there.

    To be called before networks are compiled or exported, tensors have no memory, or a GPU is used.
    """
    while _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)
    for name in DEFERRED:
        module = sys.modules.get(name)
        if type(module) is _Late:
            _execute(module)


def _home_of_torch() -> Path | None:
    """The folder that torch would be imported from."""
    spec = PathFinder.find_spec("torch")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _version_in(home: Path) -> str | None:
    """The version of torch, read without importing it; ``importlib.metadata`` would take longer."""
    with suppress(OSError):
        for line in (home / "version.py").read_text(encoding="utf-8").splitlines():
            if line.startswith("__version__"):
                return line.partition("=")[2].strip().strip("'\"")
    return None


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let torch's optimizers be built within the block without the import of ``torch._dynamo``, which takes seconds.

    torch wraps the method that adds parameters so that torch.compile steps over it, and the wrapper imports the
    compiler at the first call, whether or not anything is ever compiled. It keeps what it calls as an attribute of the
    function it wraps; here that is the function itself. Nothing may be compiled within the block; afterwards the
    method is as it was. Under a torch that wraps otherwise, optimizers are built as ever.

    Source: ``torch._compile._disable_dynamo``.
    """
    optimizer: Any = importlib.import_module("torch.optim").Optimizer
    function = getattr(optimizer.add_param_group, "__wrapped__", None)
    if function is None or hasattr(function, _MARK):
        yield
        return
    setattr(function, _MARK, function)
    try:
        yield
    finally:
        delattr(function, _MARK)
