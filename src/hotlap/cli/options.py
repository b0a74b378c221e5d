"""Options that several verbs share, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hotlap.errors import InputError
from hotlap.recipe import parse_set

MOST_SEEDS = 1_000_000
_SEEDS = "--seeds 10, --seeds 3..7 or --seeds 1,4,9"

RecipeName = Annotated[str, typer.Argument(help="Recipe, data set (its fastest recipe), or a .json file.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change the recipe, e.g. optimizer.lr=0.02.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Train on other data: a known name, a folder of images, a saved Hugging Face set, an .npz file.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads of one operation.")]
Compile = Annotated[
    bool | None, typer.Option("--compile/--no-compile", help="Compile the network, or not; else as the recipe says.")
]
Backend = Annotated[
    Literal["auto", "torch", "native"],
    typer.Option("--backend", help="torch, native (compiled kernels for small networks on a CPU), or auto."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32 (on a GPU with convolutions in TensorFloat32), bf16, fp16 or auto; else as the recipe says.",
    ),
]
StorePath = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Run store; else HOTLAP_STORE or the user's own.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Shared = Annotated[
    bool, typer.Option("--shared", help="The machine is busy with other work: times will not count, accuracy will.")
]

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Train so many at once; then times do not count.")]
BatchSeeds = Annotated[
    int | None,
    typer.Option("--batch-seeds", metavar="K", help="Train K seeds in one program; then times do not count."),
]
ExecutorName = Annotated[
    Literal["local", "processes", "ray"] | None,
    typer.Option("--executor", help="Train here, in processes of this machine, or on Ray; else by --jobs, --address."),
]
Gpus = Annotated[
    str | None,
    typer.Option("--gpus", metavar="all|0,1", help="Train a seed on each of these GPUs at once; times do not count."),
]
Address = Annotated[
    str | None, typer.Option("--address", metavar="HOST:PORT", help="Train on this Ray cluster; auto for a local one.")
]


def changes(
    settings: list[str] | None, *, compile_: bool | None = None, precision: str | None = None
) -> dict[str, Any]:
    """Gather what ``--set`` and its shorthands change, by dotted path."""
    found = dict(parse_set(text) for text in settings or [])
    if compile_ is not None:
        found["engine.compile"] = compile_
    if precision is not None:
        found["engine.precision"] = precision
    return found


def check_recipe_file(option: str, path: Path) -> None:
    """Refuse a path that no recipe can be written to, or read from again.

    Raises:
        InputError: it does not end in .json, is a folder, or lies in none.
    """
    if path.suffix != ".json":
        fix = f"recipes are files that end in .json: {option} {path / 'recipe' if path.is_dir() else path}.json"
        raise InputError(f"{path} is not the name of a recipe", fix)
    if path.is_dir():
        raise InputError(f"{path} is a folder", f"name a file: {option} {path / 'recipe.json'}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", f"mkdir -p {path.parent}, or choose another {option}")


def parse_seeds(text: str) -> list[int]:
    """Read seeds: ``5`` is how many, counted from 0; ``3..7`` and ``1,4,9`` are the seeds themselves.

    Raises:
        InputError: none of these, too many, or one that no store can hold.
    """
    from hotlap.result import check_seed

    seeds: Sequence[int]
    try:
        if ".." in text:
            first, last = (int(piece) for piece in text.split("..", 1))
            seeds = range(first, last + 1)
        elif "," in text:
            seeds = [int(piece) for piece in text.split(",") if piece.strip()]
        else:
            seeds = range(int(text))
    except ValueError:
        raise InputError(f"{text!r} is no choice of seeds", _SEEDS) from None
    if seeds[MOST_SEEDS:]:
        raise InputError(f"{text!r} names more than {MOST_SEEDS:,} seeds", _SEEDS)
    if not seeds or min(seeds) < 0:
        raise InputError(f"{text!r} names no seeds", _SEEDS)
    return [check_seed(seed) for seed in dict.fromkeys(seeds)]
