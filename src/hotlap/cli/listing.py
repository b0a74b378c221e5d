"""``hotlap list``: ladders and their recipes."""

from __future__ import annotations

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout


def list_(json: options.Json = False) -> None:
    """List every ladder with its recipes and published figures."""
    from rich import box
    from rich.table import Table

    from hotlap.ladder import ladders, resolve
    from hotlap.ladders import DEFAULTS

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
                            "default_of": [name for name, recipe in DEFAULTS.items() if recipe == step.recipe.name],
                        }
                        for step in resolve(ladder)
                    ],
                }
                for ladder in ladders().values()
            ]
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
            default = "".join(f" (= {name})" for name, recipe in DEFAULTS.items() if recipe == step.recipe.name)
            mark = " †" if step.recipe.stop_at is not None else ""
            table.add_row(step.recipe.name + default, step.rung.title, published.time, published.accuracy_text + mark)
        console.print(table)
    console.print("† stops on test accuracy. One recipe: hotlap show NAME. Measure a ladder: hotlap ladder NAME.")
