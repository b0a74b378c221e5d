"""``hotlap predict``: what images show, by a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from hotlap.recipe import Recipe


def predict(
    model: Annotated[Path, typer.Argument(help="Saved model: hotlap train RECIPE --save FILE.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, folders of them, or .npz files.")],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="The K most likely classes.")] = 1,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", min=1, help="Images at once; else as the recipe says.")
    ] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which class each image shows, and with which probability.

    Folders are searched at any depth, links followed, hidden files left out. Images of another size or colour are
    converted, with a remark. Exit status 2 when a file cannot be read; the others are answered. A folder that cannot be
    read is refused. Characters of names that the terminal cannot show are escaped.
    """
    from hotlap.cli.progress import RunProgress
    from hotlap.engine.devices import use_threads
    from hotlap.saved import load
    from hotlap.saved.pictures import Pictures, find_files

    loaded = load(model, device=device)
    facts = loaded.facts
    files = find_files(images)
    pictures = Pictures(facts.shape, _resize_of(facts.recipe))
    size = batch if batch is not None else facts.recipe.evaluation.batch_size
    answers: list[dict[str, Any]] = []
    with RunProgress(0, quiet=quiet) as progress, use_threads(threads):
        if len(files) > size:
            progress.start("reading images", len(files))
        for names, pixels in pictures.batches(files, size):
            for name, row in zip(names, loaded.predict_proba(pixels, batch_size=size), strict=True):
                best = [
                    {"class": facts.classes[k], "probability": float(row[k])} for k in (-row).argsort(kind="stable")
                ]
                answers.append({"file": name, **best[0], "top": best[:top]})
            progress.advance(len(names))
        progress.done()
    if json:
        unreadable = [{"file": file, "cause": cause} for file, cause in pictures.unreadable.items()]
        print_json(
            {
                "model": str(model),
                "recipe": facts.recipe.name,
                "resized": pictures.resized,
                "recoloured": pictures.recoloured,
                "predictions": answers,
                "unreadable": unreadable,
            }
        )
    else:
        _print(answers)
    if not quiet and not json and (remark := pictures.remark()):
        stderr().print(remark, markup=False, soft_wrap=True)
    for cause in pictures.unreadable.values():
        stderr().print(f"hotlap: {cause}", markup=False, soft_wrap=True)
    raise typer.Exit(2 if pictures.unreadable else 0)


def _resize_of(recipe: Recipe) -> str:
    """Return how images were brought to one size for the training; ``stretch`` where they had it already."""
    how = recipe.data.options.get("resize")
    return how if how in ("stretch", "crop", "pad") else "stretch"


def _print(answers: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not answers:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for answer in answers:
        for rank, one in enumerate(answer["top"]):
            # Text, not markup: names of files and classes may hold brackets.
            name = "" if rank else answer["file"]
            table.add_row(Text(name), Text(one["class"]), f"{one['probability']:.2%}")
    stdout().print(table)
