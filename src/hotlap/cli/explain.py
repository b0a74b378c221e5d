"""``hotlap explain``: what a technique does, what it is published to give, where it comes from, and who has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout

if TYPE_CHECKING:
    from hotlap.catalogue import Technique

Name = Annotated[str | None, typer.Argument(help="Technique, e.g. cutout; all of them when left out.")]


def explain(name: Name = None, json: options.Json = False) -> None:
    """Explain a technique: what it does, its published effect, its source, and the recipes that have it."""
    from hotlap.catalogue import technique, techniques

    if name is None:
        every = techniques().values()
        if json:
            print_json([_brief(one) for one in every])
        else:
            _list(every)
        return
    found = technique(name)
    recipes = _recipes(found)
    if json:
        print_json(
            {
                **_brief(found),
                "effect": found.card.effect,
                "source": found.card.source,
                "options": list(found.options),
                "where": found.where,
                "recipes": recipes,
            }
        )
        return
    _print(found, recipes)


def _brief(technique: Technique) -> dict[str, Any]:
    return {"technique": technique.name, "kind": technique.kind, "does": technique.card.does}


def _recipes(technique: Technique) -> list[str]:
    from hotlap.ladder import recipes

    return sorted(name for name, recipe in recipes().items() if technique.used_by(recipe))


def _list(every: Any) -> None:
    from rich import box
    from rich.table import Table

    from hotlap.catalogue import KINDS

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("technique", no_wrap=True)
    table.add_column("what it does", overflow="fold")
    kind = None
    for one in every:
        if one.kind != kind:
            kind = one.kind
            table.add_section()
            table.add_row(f"[bold]{KINDS[kind][0]}[/bold]", "")
        table.add_row(one.name, one.card.does)
    console = stdout()
    console.print(table)
    console.print("More of one: hotlap explain NAME.")


def _print(technique: Technique, recipes: list[str]) -> None:
    from hotlap.catalogue import KINDS

    console = stdout()
    card = technique.card
    console.print(technique.name, style="bold", markup=False)
    what = "Settings" if technique.kind == "settings" else "Options"
    for heading, text in (
        ("", card.does),
        ("Kind: ", KINDS[technique.kind][0].lower()),
        ("Published effect: ", card.effect),
        ("Source: ", card.source),
        (f"{what}: ", ", ".join(technique.options) or "none"),
        ("Code: ", technique.where),
        ("Recipes: ", ", ".join(recipes) or "none"),
    ):
        console.print(heading + text, markup=False, soft_wrap=True)
