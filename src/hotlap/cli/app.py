"""The command line's root and its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

import hotlap
from hotlap.cli import (
    certify,
    compare,
    data,
    doctor,
    explain,
    export,
    ladder,
    listing,
    predict,
    report,
    runs,
    show,
    train,
    tune,
)

app = typer.Typer(
    name="hotlap",
    help="Train small image classifiers to a target accuracy in the least time, and prove it with statistics.",
    epilog="Exit status: 0 done, 1 target missed or training failed, 2 bad input, 70 hotlap's fault, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hotlap {hotlap.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error comes from; works with any verb.")
    ] = False,
) -> None:
    """Train small image classifiers to a target accuracy in the least time, and prove it with statistics."""


app.command("train")(train.train)
app.command("ladder")(ladder.ladder)
app.command("compare")(compare.compare)
app.command("tune")(tune.tune)
app.command("certify")(certify.certify)
app.command("predict")(predict.predict)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("show")(show.show)
app.command("list")(listing.list_)
app.command("explain")(explain.explain)
app.add_typer(runs.app, name="runs")
app.add_typer(data.app, name="data")
