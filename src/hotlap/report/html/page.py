"""The page: its sections in order, and its rendering to one HTML document that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from hotlap.report.formats import seconds
from hotlap.report.html.figures import missing_library
from hotlap.report.html.ladder_section import ladder_section
from hotlap.report.html.parts import Cell, Column, Section, Table, Text
from hotlap.report.html.recipe_section import recipes_section
from hotlap.report.html.selection import Selection, ladder_views, machine_of, run_sets
from hotlap.result import CERTIFIED, POLICIES, Run

if TYPE_CHECKING:
    from jinja2 import Environment


def report_sections(selection: Selection, others: Sequence[Section] = ()) -> list[Section]:
    """Build the sections that follow from runs: ladders, recipes, machines; each only where there are data for it.

    Args:
        selection: the runs.
        others: what was asked for besides; it comes before the tables of all runs.

    Raises:
        InputError: plotly is not installed.
    """
    if not selection.runs:
        return [*others]
    ladders = [ladder_section(view) for view in ladder_views(selection)]
    return [*ladders, *others, recipes_section(run_sets(selection.runs)), machines_section(selection.runs)]


def about(runs: Sequence[Run]) -> str:
    """Say in one sentence what was measured, and when."""
    recipes, machines = len({run.recipe.digest for run in runs}), len({machine_of(run) for run in runs})
    first, last = min(run.started_at for run in runs)[:10], max(run.started_at for run in runs)[:10]
    when = f"on {first}" if first == last else f"from {first} to {last}"
    return (
        f"{_count(len(runs), 'run')} of {_count(recipes, 'recipe')} on {_count(machines, 'machine')}, {when} (UTC), "
        f"{seconds(sum(run.certified_s for run in runs))} of certified time in all."
    )


def timing_note(runs: Sequence[Run]) -> str:
    """Say what the times of these runs count."""
    rules = ", ".join(sorted({str(run.timing_rules) for run in runs}))
    return (
        f"Certified time is {' + '.join(POLICIES[CERTIFIED])} (timing rules {rules}): loading, compiling and logging "
        "do not count. Times of a set are medians, accuracies means. Times marked ‡ were taken while other work "
        "shared the machine and do not count; a recipe marked † stops on test accuracy, which flatters it."
    )


def machines_section(runs: Sequence[Run]) -> Section:
    """List the machines and the software that runs were made with."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        env = run.environment
        key = (
            env.gpu or env.cpu, run.device, env.cores, env.threads, round(env.memory_gb), env.platform, env.python,
            env.torch, env.hotlap,
        )  # fmt: skip
        groups.setdefault(key, []).append(run)
    columns = [Column("processor", numeric=False), Column("device", numeric=False), Column("cores"), Column("threads")]
    columns += [Column("memory"), *(Column(name, numeric=False) for name in ("system", "software", "source"))]
    columns += [Column("runs"), Column("first run (UTC)", numeric=False)]
    rows = []
    for (name, device, cores, threads, memory, platform, python, torch, hotlap), own in groups.items():
        rows.append(
            [
                Cell(name),
                Cell(device),
                Cell(str(cores), cores),
                Cell(str(threads), threads),
                Cell(f"{memory} GB", memory),
                Cell(platform),
                Cell(f"Python {python}, torch {torch}, hotlap {hotlap}"),
                Cell(", ".join(sorted({_commit(run) for run in own}))),
                Cell(str(len(own)), len(own)),
                Cell(min(run.started_at for run in own)[:16].replace("T", " ")),
            ]
        )
    notes = ["+ is a modified source tree."] if any("+" in row[7].text for row in rows) else []
    table = Table(caption="Machines and software", columns=columns, rows=rows, notes=notes)
    loads = [run.contention for run in runs if run.contention is not None]
    text = f"Other processes kept {max(loads):.2f} cores busy at most during a run." if loads else ""
    return Section(title="Machines", blocks=[table, *([Text(text)] if text else [])])


def render(
    title: str, sections: Sequence[Section], *, lead: Sequence[str] = (), plots: bool = True, language: str = "en"
) -> str:
    """Render a page; every text is escaped, and scripts, styles and pictures are in it.

    Args:
        title: heading of the page.
        sections: its parts.
        lead: paragraphs below the title.
        plots: take the plot library in; it is 4.8 MB, and without plots nobody needs it.
        language: of the texts.

    Raises:
        InputError: jinja2 or plotly is not installed.
        ValueError: a figure holds a number that JSON has not.
    """
    template = _environment().get_template("page.html")
    return template.render(
        title=title, lead=lead, sections=sections, language=language, plotly=_plotly() if plots else ""
    )


def _environment() -> Environment:
    try:
        import jinja2
        import markupsafe
    except ImportError:
        raise missing_library() from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = json.dumps
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    # The package's own style and script are no user's text.
    environment.globals["own_file"] = lambda name: markupsafe.Markup(_file(name))
    return environment


def _file(name: str) -> str:
    return (resources.files("hotlap.report.html") / "templates" / name).read_text(encoding="utf-8")


def _plotly() -> Any:
    try:
        import markupsafe
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise missing_library() from None
    return markupsafe.Markup(get_plotlyjs())


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _commit(run: Run) -> str:
    commit = run.environment.commit or "installed"
    return commit[:12] + ("+" if "+" in commit[12:] else "")
