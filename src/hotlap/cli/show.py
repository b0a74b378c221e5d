"""``hotlap show``: a recipe in full, its network and its cost, or its difference to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap._files import replace_file
from hotlap.cli import options
from hotlap.cli.choosing import choose_aloud
from hotlap.cli.output import print_json, stderr, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from hotlap.engine.inspect import NetworkFacts
    from hotlap.ladder import Step
    from hotlap.recipe import Change, Recipe


def show(
    recipe: Annotated[
        str | None, typer.Argument(help="Recipe, data set (its fastest recipe), or a .json file; else one for --data.")
    ] = None,
    diff: Annotated[str | None, typer.Option("--diff", metavar="OTHER", help="Show the changes from OTHER.")] = None,
    set_: options.Set = None,
    data: options.Data = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE", help="Also write the recipe to a .json file, to edit, train or compare."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show a recipe: every value, layers with shapes and parameters, FLOP; or what it changes against another."""
    from hotlap import datasets
    from hotlap.bench.own_data import options_written
    from hotlap.bench.session import resolve_recipe
    from hotlap.engine.backends import outside_family
    from hotlap.engine.inspect import inspect_recipe
    from hotlap.native.library import missing
    from hotlap.recipe import diff as diff_of

    changed = options.changes(set_)
    if recipe is not None:
        resolved = resolve_recipe(recipe, changes=changed, data=data, device="auto")
    elif data is not None:
        resolved = choose_aloud(data, changed, "auto", quiet=False).recipe
    else:
        raise InputError("nothing to show", "hotlap show mnist, or for your own images: hotlap show --data FOLDER")
    if save is not None:
        _save(resolved, save)
    step = _rung_of(resolved)
    if diff is not None:
        other = resolve_recipe(diff, device="auto")
        changes = diff_of(other, resolved)
        if json:
            print_json({"from": other.name, "to": resolved.name, "changes": [_change_json(c) for c in changes]})
        else:
            _print_diff(stdout(), other, resolved, changes, step)
        return
    with options_written("--set data.KEY=VALUE"):
        info = datasets.info(resolved.data.name, **resolved.data.options)
    shape = (info.channels, *info.size)
    facts = inspect_recipe(resolved, shape, info.classes, train_images=info.train, test_images=info.test)
    reason = outside_family(resolved, shape, info.classes)
    if json:
        document = {"recipe": resolved.to_dict(), "digest": resolved.digest, "network": facts.to_dict()}
        document["native"] = {"in_family": reason is None, "reason": reason, "missing": missing()}
        if step is not None:
            document["rung"] = _rung_json(step)
        print_json(document)
    else:
        _print(stdout(), resolved, facts, shape, step)
        stdout().print(_backend(reason, missing()), soft_wrap=True, markup=False)


def _save(recipe: Recipe, path: Path) -> None:
    options.check_recipe_file("--save", path)
    replace_file(path, recipe.to_json(indent=1) + "\n", fix="choose another --save")
    stderr().print(f"recipe saved in {path}", markup=False, soft_wrap=True)


def flop_text(flop: float) -> str:
    """Write a number of FLOP with its SI prefix."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if flop >= size:
            return f"{flop / size:.3g} {prefix}FLOP"
    return f"{flop:.0f} FLOP"


def _rung_of(recipe: Recipe) -> Step | None:
    from hotlap.ladder import ladders, resolve

    return next((s for ladder in ladders().values() for s in resolve(ladder) if s.recipe == recipe), None)


def _rung_json(step: Step) -> dict[str, Any]:
    rung = step.rung
    return {
        "title": rung.title,
        "parent": step.parent.name if step.parent else None,
        "change": sorted(rung.change),
        "retune": sorted(rung.retune),
        "budget": sorted(rung.budget),
        "why": rung.why,
        "source": rung.source,
        "published_time": rung.published.time,
        "published_accuracy": rung.published.accuracy_text,
        "deviation": rung.deviation,
    }


def _change_json(change: Change) -> dict[str, Any]:
    from hotlap.recipe import plain

    return {"path": change.path, "before": plain(change.before), "after": plain(change.after)}


def _print_diff(
    console: Console, other: Recipe, recipe: Recipe, changes: tuple[Change, ...], step: Step | None
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not changes:
        text = f"{other.name} and {recipe.name} differ in nothing (digest {recipe.digest[:12]})."
        console.print(text, markup=False, soft_wrap=True)
        return
    declared: dict[str, str] = {}
    if step is not None and step.parent == other:
        for kind in ("change", "retune", "budget"):
            declared.update(dict.fromkeys(getattr(step.rung, kind), kind))
    table = Table(box=box.SIMPLE_HEAD, title=Text(f"{other.name} → {recipe.name}", "table.title"), title_justify="left")
    for heading in ("", "key", "before", "after") if declared else ("key", "before", "after"):
        table.add_column(heading, overflow="fold")
    from hotlap.recipe import show_value

    for change in changes:
        row = [change.path, show_value(change.before), show_value(change.after)]
        table.add_row(*map(Text, [declared.get(change.path, ""), *row] if declared else row))
    console.print(table)


def _print(
    console: Console, recipe: Recipe, facts: NetworkFacts, shape: tuple[int, int, int], step: Step | None
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from hotlap.recipe import paths, show_value

    console.print(f"{recipe.name}  digest {recipe.digest[:12]}", style="bold", markup=False, soft_wrap=True)
    if step is not None:
        rung = step.rung
        console.print(f"{rung.title}: {rung.why}.", markup=False, soft_wrap=True)
        published = f"Published: {rung.published.time}, {rung.published.accuracy_text} % ({rung.source})."
        console.print(published, markup=False)
        if rung.deviation:
            console.print(f"Differs from the source: {rung.deviation}.", markup=False, soft_wrap=True)
    if recipe.stop_at is not None:
        console.print("† Stops on test accuracy: its accuracy is optimistic by construction.")
    values = Table(box=box.SIMPLE_HEAD, show_edge=False)
    values.add_column("key")
    values.add_column("value", overflow="fold")
    for path, value in paths(recipe).items():
        # A component's options follow it line by line; its own line needs the name only.
        text = getattr(value, "name", None) or show_value(value)
        if path != "name":
            values.add_row(*map(Text, (path, text)))
    console.print(values)
    layers = Table(box=box.SIMPLE_HEAD, show_edge=False, title=f"input {_by(shape)}", title_justify="left")
    for heading in ("layer", "kind", "output", "parameters", "forward FLOP"):
        layers.add_column(heading, justify="right" if heading in ("parameters", "forward FLOP") else "left")
    for layer in facts.layers:
        cost = f"{layer.forward_flop:,}" if layer.forward_flop else ""
        row = layer.name, layer.kind, _by(layer.output), f"{layer.parameters:,}" if cost else "", cost
        layers.add_row(*map(Text, row))
    console.print(layers)
    console.print(
        f"{facts.parameters:,} parameters; per image {flop_text(facts.forward_flop)} forward, "
        f"{flop_text(facts.training_flop)} training; whole recipe "
        f"{'at most ' if facts.bound else ''}{flop_text(facts.recipe_flop)}.",
        soft_wrap=True,
    )


def _backend(outside: str | None, missing: str | None) -> str:
    if outside is not None:
        return f"Trained by PyTorch; the compiled kernels cannot: {outside}."
    if missing is not None:
        return f"Trained by PyTorch, though the compiled kernels could: {missing}."
    return "Trained on a CPU by the compiled kernels (--backend torch for PyTorch)."


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
