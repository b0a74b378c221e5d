"""What the command line imports, and that what it leaves out for later is the same when it comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hotlap import startup
from hotlap.native.library import missing
from hotlap.startup import DEFERRED, SWITCH, TESTED, complete, defer, without_compiler

HEAVY = ("torch._dynamo", "torch._inductor", "sympy", "scipy", "optuna", "matplotlib", "pandas", "pyarrow", "ray")
TINY = ("--set", "epochs=0.01", "--data", "synthetic", "--set", "evaluation.augmentation=null", "--quiet")
# Packages from the Python registry call themselves +cu… on Linux and have no suffix on macOS: there these tests are
# skipped, and startup.py defers nothing.
needs_tested_torch = pytest.mark.skipif(
    torch.__version__ not in TESTED, reason="imports of this torch are not deferred"
)

# The answer goes to stderr's last line: the verb itself writes to stdout.
_VERB = """
import atexit, gc, json, sys
from hotlap import startup
def answer():
    late = [name for name in startup.DEFERRED if type(sys.modules.get(name)) is startup._Late]
    print(json.dumps([sorted(sys.modules), late, gc.get_threshold()[0], gc.get_freeze_count()]), file=sys.stderr)
atexit.register(answer)
from hotlap.cli import main
main()
"""
_METAS = """
import json, sys
from hotlap.startup import complete, defer
if sys.argv[1] == "late":
    assert defer(["train"])
import torch
complete()
from torch.fx.experimental import proxy_tensor
keys = ("Meta", "CPU", "CompositeImplicitAutograd", "Autograd")
table = {key: sorted(torch._C._dispatch_get_registrations_for_dispatch_key(key)) for key in keys}
table["decompositions"] = sorted(map(str, torch._decomp.decomposition_table))
table["names"] = sorted(name for name in dir(torch) if not name.startswith("__"))
table["modules"] = sorted(name for name in sys.modules if name.startswith("torch"))
print(json.dumps(table))
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    clean = {name: value for name, value in os.environ.items() if name != SWITCH}
    return subprocess.run(command, capture_output=True, text=True, env=clean | environment)


def verb(tmp_path: Path, *arguments: str, **environment: str) -> tuple[list[str], list[str]]:
    """Run a verb; the modules that were there at the end, and those that were still to come."""
    done = python(_VERB, *arguments, HOTLAP_STORE=str(tmp_path / "runs.sqlite"), **environment)
    assert done.returncode in (0, 1), done.stderr
    modules, late, threshold, frozen = json.loads(done.stderr.splitlines()[-1])
    # What stays for good is not looked through for garbage, neither while it is imported nor at the end.
    assert threshold > 10_000 and (frozen > 10_000) == ("triton" not in modules)
    return modules, late


@pytest.mark.skipif(missing() is not None, reason="the package was installed without a C++ compiler")
@pytest.mark.parametrize("switch", ["0", "1"])
def test_a_native_run_imports_nothing_heavy(tmp_path: Path, switch: str) -> None:
    modules, late = verb(tmp_path, "train", "mnist/record", "--backend", "native", *TINY, **{SWITCH: switch})
    assert "hotlap.engine.native_trainer" in modules
    assert not set(HEAVY) & set(modules)
    assert late == (list(DEFERRED) if switch == "0" and torch.__version__ in TESTED else [])


@pytest.mark.parametrize(
    "arguments", [("train", "mnist/record", "--backend", "torch", *TINY), ("show", "mnist/record")]
)
def test_whatever_needs_all_of_torch_has_it(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    modules, late = verb(tmp_path, *arguments)
    assert late == [] and set(DEFERRED) < set(modules)


@needs_tested_torch
def test_what_comes_late_is_what_would_have_come_early() -> None:
    early, late = (json.loads(python(_METAS, which).stdout) for which in ("early", "late"))
    assert late == early


# Each in a child of its own, for what has come stays; all of them from one import of torch.
_STATEMENTS = """
import os, sys
from hotlap.startup import defer
assert defer(["train"])
import torch
def check(statement):
    exec(statement)
    names = ("torch.export", "torch.export.graph_signature")
    if "export" in statement:
        assert all(type(sys.modules[n]).__name__ == "module" for n in names)
        assert torch.export.graph_signature is sys.modules[names[1]]
        assert torch.export.ExportGraphSignature is torch.export.graph_signature.ExportGraphSignature
for statement in sys.argv[1:]:
    if not (child := os.fork()):
        check(statement)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, statement
"""


@needs_tested_torch
def test_late_modules_come_when_asked_for() -> None:
    done = python(
        _STATEMENTS,
        *("torch.export.export", "from torch.export import Dim", "import torch.export.graph_signature"),
        *("from torch._meta_registrations import meta_conv", "torch.empty(2, device='meta')"),
    )
    assert done.returncode == 0, done.stderr


def test_nothing_is_deferred_where_torch_is_there() -> None:
    assert "torch" in sys.modules and not defer(["train"])


@pytest.mark.parametrize(("arguments", "environment", "version"), [
    ([], {}, TESTED[0]), (["export"], {}, TESTED[0]), (["tune"], {}, TESTED[0]),
    (["train"], {SWITCH: "1"}, TESTED[0]), (["train"], {}, "9.9.9"), (["train"], {}, None),
])  # fmt: skip
def test_nothing_is_deferred_unless_all_is_well(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str], version: str | None
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delenv(SWITCH, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(startup, "_version_in", lambda home: version)
    before = list(sys.meta_path)
    assert not defer(arguments)
    assert sys.meta_path == before


def test_the_version_is_read_without_an_import(tmp_path: Path) -> None:
    home = startup._home_of_torch()
    assert home == Path(torch.__file__).parent
    assert startup._version_in(home) == torch.__version__
    assert startup._version_in(tmp_path) is None


def test_completing_twice_or_for_nothing_is_harmless() -> None:
    complete()
    complete()


def test_without_the_compiler_methods_are_as_they_were_afterwards() -> None:
    inner: Any = torch.optim.Optimizer.add_param_group.__wrapped__  # type: ignore[attr-defined]
    before = dict(vars(inner))
    weight = torch.nn.Parameter(torch.ones(2))
    with without_compiler():
        built = torch.optim.SGD([weight], lr=0.5)
    assert vars(inner) == before
    weight.sum().backward()
    built.step()
    assert weight.tolist() == [0.5, 0.5]
