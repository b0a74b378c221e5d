"""The shape of the package: which part may import which, and what must work without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "hotlap"

# Lower parts know nothing of higher ones. Parts on one line may import each other.
LAYERS = [
    {"errors"},
    {"_files", "_source", "_tree", "startup"},
    {"recipe"},
    {"result", "registry"},
    {"stats"},
    {
        "store",
        "report",
        "ladder",
        "ladders",
        "datasets",
        "models",
        "techniques",
        "optim",
        "trackers",
        "fused",
        "catalogue",
    },
    {"native"},
    {"engine"},
    {"bench"},
    {"tune"},
    {"saved"},
    {"api", "estimator"},
    {"cli"},
    {"__main__"},
]


def _part(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Parts of hotlap that a module imports when it is imported; imports inside functions are left out."""
    found: set[str] = set()
    for node in _top_level(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "hotlap" else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("hotlap.")}
    return found


def _everything_imported(path: Path) -> set[str]:
    """Packages that a module imports anywhere in it, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            found |= {name.value.partition(".")[0]} if isinstance(name, ast.Constant) else set()
    return found


def _top_level(tree: ast.AST):  # type: ignore[no-untyped-def]
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from _top_level(node)


MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    level = {part: i for i, layer in enumerate(LAYERS) for part in layer}
    assert _part(path) in level, f"{path} belongs to no layer"
    for imported in _imports(path) - {_part(path), "__version__"}:
        assert level[imported] <= level[_part(path)], f"{_part(path)} must not import {imported}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_techniques_and_models_never_import_the_engine() -> None:
    for part in ("techniques", "models", "optim", "datasets"):
        for path in (SOURCE / part).rglob("*.py"):
            assert "hotlap.engine" not in path.read_text(encoding="utf-8")


def test_only_the_ray_executor_imports_ray() -> None:
    users = {path.relative_to(SOURCE).as_posix() for path in MODULES if "ray" in _everything_imported(path)}
    assert users == {"bench/executors/ray.py"}


@pytest.mark.parametrize(
    "code",
    [
        "import hotlap",
        "import hotlap.store, hotlap.stats, hotlap.report.tables, hotlap.report.ladder_table, hotlap.report.plots",
        "import hotlap.datasets; hotlap.datasets.names()",
        "import hotlap.ladder; hotlap.ladder.get_recipe('mnist')",
        "import hotlap.cli; assert hotlap.cli.run(['--help']) == 0",
        "import hotlap.cli; assert hotlap.cli.run(['list']) == 0",
        "import hotlap.cli; assert hotlap.cli.run(['runs']) in (0, 2)",
    ],
)
def test_works_without_importing_torch(code: str) -> None:
    check = f"import sys\n{code}\nassert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_can_be_imported() -> None:
    import hotlap

    for name in hotlap.__all__:
        assert getattr(hotlap, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hotlap.nothing  # type: ignore[attr-defined]
