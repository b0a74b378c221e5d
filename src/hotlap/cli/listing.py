"""``hotlap list``: ladders and their recipes, and recipes of no ladder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from hotlap.recipe import Recipe

OWN = "own records"


def list_(json: options.Json = False) -> None:
    """List every ladder with its recipes and published figures, then recipes that are no rung of any."""
    from rich import box
    from rich.table import Table

    from hotlap.ladder import ladders, own_records, resolve

    if json:
        print_json(
            [
                {
                    "ladder": ladder.name,
                    "title": ladder.title,
                    "hardware": ladder.hardware,
                    "recipes": [
                        {
                            "recipe": step.recipe.name,
                            "digest": step.recipe.digest,
                            "change": step.rung.title,
                            "published_time_s": step.rung.published.time_s,
                            "published_accuracy": step.rung.published.accuracy,
                            "stops_on_test": step.recipe.stop_at is not None,
                            "default_of": _default_of(step.recipe.name),
                        }
                        for step in resolve(ladder)
                    ],
                }
                for ladder in ladders().values()
            ]
            + [{"ladder": None, "title": OWN, "hardware": None, "recipes": [_own_json(r) for r in own_records()]}]
        )
        return
    console = stdout()
    for ladder in ladders().values():
        table = Table(title=ladder.title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
        table.caption = f"published on: {ladder.hardware}"
        for heading in ("recipe", "change", "published time", "accuracy"):
            table.add_column(heading)
        for step in resolve(ladder):
            published = step.rung.published
            default = "".join(f" (= {name})" for name in _default_of(step.recipe.name))
            mark = " †" if step.recipe.stop_at is not None else ""
            table.add_row(step.recipe.name + default, step.rung.title, published.time, published.accuracy_text + mark)
        console.print(table)
    console.print(_own_table(own_records()))
    console.print("† stops on test accuracy. One recipe: hotlap show NAME. Measure a ladder: hotlap ladder NAME.")


def _default_of(name: str) -> list[str]:
    from hotlap.ladders import DEFAULTS, ON_GPU

    own = [short for short, recipe in DEFAULTS.items() if recipe == name]
    return own + [f"{short} on a GPU" for short, recipe in ON_GPU.items() if recipe == name]


def _own_json(recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "digest": recipe.digest,
        "change": None,
        "published_time_s": None,
        "published_accuracy": None,
        "stops_on_test": recipe.stop_at is not None,
        "default_of": _default_of(recipe.name),
    }


def _own_table(recipes: tuple[Recipe, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=OWN, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.caption = "of no publication and no ladder; what they were measured to do is in records/"
    for heading in ("recipe", "target", "epochs", "batch size", "test-time augmentation"):
        table.add_column(heading)
    for recipe in recipes:
        views = recipe.evaluation.augmentation
        target = "–" if recipe.target is None else f"{100 * recipe.target:g} %"
        default = "".join(f" (= {name})" for name in _default_of(recipe.name))
        mark = " †" if recipe.stop_at is not None else ""
        cells = (target + mark, f"{recipe.epochs:g}", str(recipe.batch_size), views.name if views else "none")
        table.add_row(recipe.name + default, *cells)
    return table
