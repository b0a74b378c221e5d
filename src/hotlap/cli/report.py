"""``hotlap report``: stored runs and records as one HTML file, or as plots."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.report.html.parts import Section
    from hotlap.report.html.selection import Selection


def report(
    what: Annotated[
        list[str] | None,
        typer.Argument(help="Recipe patterns, ladders, folders of records; everything that is stored when left out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="PATH", help="File to write (report.html); a folder for png and svg."),
    ] = None,
    format_: Annotated[
        Literal["html", "png", "svg"],
        typer.Option("--format", help="One page, or plots of ladders and learning curves."),
    ] = "html",
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Set recipe B beside A, by their runs of the same seeds."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="Show what this saved model takes its test images for."),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    device: options.Device = "auto",
    store: options.StorePath = None,
    json: options.Json = False,
) -> None:
    """Write what is stored as one HTML file that needs no network: tables, plots, comparisons, predictions.

    With --model and nothing named, the page is about the model alone.
    """
    from hotlap.report.html.selection import Selection, gather

    if format_ != "html" and (compare or model or title):
        raise InputError("--compare, --model and --title are for the HTML page", "leave out --format")
    names = what or []
    selection = Selection(runs=()) if model is not None and not (names or compare) else gather(names, store=store)
    document: dict[str, Any] = {
        "written": [],
        "runs": len(selection.runs),
        "recipes": sorted({run.recipe.name for run in selection.runs}),
        "comparisons": [],
    }
    if format_ == "html":
        path = out if out is not None else Path("report.html")
        if path.is_dir():
            raise InputError(f"{path} is a folder", f"-o {path / 'report.html'}")
        page = _page(selection, compare, model, device, title or _title(names), store, document)
        document["written"] = [str(_write(path, page))]
    else:
        from hotlap.report.plot_files import write_plots

        written = write_plots(selection, out if out is not None else Path("report"), format_)
        document["written"] = [str(path) for path in written]
    if json:
        print_json(document)
        return
    console = stdout()
    for line in document["comparisons"]:
        console.print(line, markup=False, soft_wrap=True)
    for name in document["written"]:
        console.print(f"Wrote {name}.", markup=False, soft_wrap=True)


def _title(names: list[str]) -> str:
    shown = [Path(name).resolve().name if Path(name).is_dir() else name for name in names]
    return f"hotlap report: {', '.join(shown)}" if shown else "hotlap report"


def _page(
    selection: Selection,
    pair: tuple[str, str] | None,
    model: Path | None,
    device: str,
    title: str,
    store: Path | None,
    document: dict[str, Any],
) -> str:
    """Render the page; what it holds besides runs is noted in ``document``, in place."""
    from hotlap.report.html.comparison_section import comparison_section
    from hotlap.report.html.page import about, render, report_sections, timing_note

    others: list[Section] = []
    if pair is not None:
        section, sentences = comparison_section(*pair, _with(selection, pair, store))
        others.append(section)
        document["comparisons"] += sentences
    if model is not None:
        others.append(_predictions(model, device))
    lead = [about(selection.runs), timing_note(selection.runs)] if selection.runs else []
    return render(title, report_sections(selection, others), lead=lead)


def _with(selection: Selection, names: tuple[str, str], store: Path | None) -> list[Any]:
    """The runs of a report, and the store's runs of recipes that are to be compared and are not among them."""
    from hotlap.errors import HotlapError
    from hotlap.ladders import names_of
    from hotlap.report.html.selection import gather

    runs = {run.id: run for run in selection.runs}
    known = {run.recipe.name for run in selection.runs}
    for name in (one for given in names for one in names_of(given)):
        if name not in known:
            with contextlib.suppress(HotlapError):  # it may be a digest; and the comparison names what it lacks
                runs.update((run.id, run) for run in gather([name], store=store).runs)
    return list(runs.values())


def _predictions(path: Path, device: str) -> Section:
    """What a saved model takes the test images of its data set for."""
    import numpy as np

    from hotlap import datasets
    from hotlap.report.html.predictions_section import predictions_section
    from hotlap.saved import load

    saved = load(path, device=device)
    facts = saved.facts
    data = datasets.load(facts.recipe.data.name, **facts.recipe.data.options)
    if data.digest != facts.data_digest:
        raise InputError(
            f"{data.name} is not what {path} was trained on: it has changed since",
            f"hotlap train {facts.recipe.name} --save {path}",
        )
    images = np.ascontiguousarray(data.x_test.transpose(0, 2, 3, 1))
    return predictions_section(
        saved.predict_proba(images),
        np.asarray(data.y_test),
        images,
        facts.classes,
        title=f"Predictions of {facts.recipe.name}, seed {facts.seed}",
    )


def _write(path: Path, page: str) -> Path:
    """Write the page at once: a reader sees the old one or the new one."""
    from hotlap._files import replace_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "choose another place: -o FILE") from None
    return replace_file(path, page, fix="choose another place: -o FILE")
