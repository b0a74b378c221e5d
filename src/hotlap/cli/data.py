"""``hotlap data``: list, fetch, verify and describe data sets."""

from __future__ import annotations

import json as json_
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.cli.progress import RunProgress
from hotlap.errors import DataError, InputError, unknown_name

if TYPE_CHECKING:
    from hotlap.datasets import DataInfo

app = typer.Typer(help="List, fetch, verify and describe data sets.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Data set, e.g. mnist.")]
Option = Annotated[
    list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of own data, e.g. size=32.")
]


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the data sets and what is in the cache."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from hotlap import datasets

    published = [name for name in datasets.names() if not datasets.options(name)]
    own = [name for name in datasets.names() if datasets.options(name)]
    infos, damaged = [], {}
    for name in published:
        try:
            infos.append(datasets.info(name))
        except DataError as error:
            damaged[name] = str(error)
    if json:
        print_json(
            {
                "cache": str(datasets.cache_dir()),
                "published": [info.as_dict() for info in infos],
                "damaged": damaged,
                "own": {name: datasets.options(name) for name in own},
            }
        )
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for heading in ("data set", "train", "test", "image", "classes", "in the cache"):
        table.add_column(heading)
    for info in infos:
        size = f"{info.channels}×{info.size[0]}×{info.size[1]}"
        cached = f"{info.bytes / 1e6:.0f} MB" if info.cached else f"no: hotlap data fetch {info.name}"
        table.add_row(info.name, f"{info.train:,}", f"{info.test:,}", size, str(info.classes), cached)
    for name, problem in damaged.items():
        table.add_row(name, "", "", "", "", Text(problem))
    for name in own:
        table.add_row(name, "", "", "", "", "options: " + ", ".join(datasets.options(name)))
    console = stdout()
    console.print(table)
    console.print(f"Cache: {datasets.cache_dir()} (HOTLAP_DATA moves it).", markup=False, soft_wrap=True)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Data sets, e.g. mnist cifar10.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again even if it is in the cache.")] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fetch published data sets into the cache and verify them."""
    from hotlap import datasets

    fetched: list[dict[str, Any]] = []
    with RunProgress(0, quiet=quiet) as progress:
        for name in names:
            where = datasets.fetch(name, progress=progress, force=force)
            source = datasets.info(name).source
            fetched.append({"name": name, "where": str(where), "source": source})
            if not json:
                progress.say(f"{name} is in {where}, from {source}, and its SHA-256 is right")
    if json:
        print_json(fetched)


@app.command()
def verify(name: Name, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Hash a cached data set again and compare with the known SHA-256."""
    from hotlap import datasets

    with RunProgress(0, quiet=quiet) as progress:
        report = datasets.verify(name, progress=progress)
    if json:
        print_json(report.as_dict())
        return
    console = stdout()
    console.print(f"{report.name} in {report.where}, from {report.source}: as published", markup=False, soft_wrap=True)
    for check in report.checks:
        console.print(f"  {check}", markup=False, soft_wrap=True)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Data set, folder of images, saved Hugging Face set, or .npz file.")],
    option: Option = None,
    json: options.Json = False,
) -> None:
    """Describe a data set: counts, sizes, classes, mean and spread of the pixels, origin."""
    from hotlap import datasets
    from hotlap.bench.own_data import data_component, options_written

    component = data_component(name) if name not in datasets.names() else None
    given = {**(component.options if component else {}), **_read_options(option)}
    with options_written("--option KEY=VALUE"):
        known = component.name if component else name
        for key in given:
            if key not in datasets.options(known):
                raise unknown_name(f"option for {known}", key, datasets.options(known))
        facts = datasets.info(known, **given)
        # Own data may hold surprises; published data are what they are.
        found = datasets.inspect(known, **given) if datasets.options(known) else None
    if json:
        print_json({**facts.as_dict(), "inspection": found.as_dict() if found else None})
        return
    _print_info(facts)
    for line in found.lines() if found else ():
        stdout().print(line, markup=False, soft_wrap=True)


def _read_options(settings: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in settings or []:
        key, equals, raw = text.partition("=")
        if not equals:
            raise InputError(f"--option takes key=value, not {text!r}", "for example --option size=32")
        try:
            found[key] = json_.loads(raw)
        except ValueError:
            found[key] = raw
    return found


def _print_info(facts: DataInfo) -> None:
    console = stdout()
    size = f"{facts.channels}×{facts.size[0]}×{facts.size[1]}"
    lines = [
        f"{facts.name}: {facts.train:,} training and {facts.test:,} test images of {size}, uint8",
        f"{facts.classes} classes: {', '.join(facts.class_names)}",
    ]
    if facts.train_per_class:
        lines.append(f"training images per class: {min(facts.train_per_class)} to {max(facts.train_per_class)}")
    if facts.mean and facts.std:
        lines.append(f"mean {_list(facts.mean)}, std {_list(facts.std)} (pixels as 0 to 1)")
    where = f"in {facts.where}, from {facts.source}" if facts.where else "not in the cache"
    lines.append(f"{facts.bytes / 1e6:.1f} MB decoded, {where}; digest {facts.digest[:12]}")
    for line in (*lines, *facts.notes):
        # Names of folders and classes may hold brackets.
        console.print(line, markup=False, soft_wrap=True)


def _list(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"
