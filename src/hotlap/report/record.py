"""Records: raw runs in a folder, with a README, tables and plots generated from them and nothing else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotlap.errors import InputError
from hotlap.ladder import Ladder, get_ladder, resolve
from hotlap.report.formats import percent, percent_with_interval, seconds, seconds_with_interval
from hotlap.report.ladder_table import LadderRow
from hotlap.result import Run
from hotlap.stats.summary import summarise

RUNS = "runs.jsonl"
README = "README.md"


def ladder_rows(ladder: Ladder, runs: Sequence[Run], *, rungs: Sequence[int] | None = None) -> list[LadderRow]:
    """Return a table row for each rung, with the summary of its runs.

    Args:
        ladder: whose rungs.
        runs: runs of these rungs, known by their recipe's name; the order does not matter.
        rungs: which rungs, by index; all when None.
    """
    rows = []
    for step in resolve(ladder):
        if rungs is not None and step.index not in rungs:
            continue
        own = sorted((run for run in runs if run.recipe.name == step.recipe.name), key=lambda run: run.seed)
        published = step.rung.published
        rows.append(
            LadderRow(
                index=step.index,
                name=step.rung.name,
                title=step.rung.title,
                published_s=published.time_s,
                published_text=published.time,
                published_accuracy=published.accuracy,
                summary=summarise(own) if own else None,
                running=None,
            )
        )
    return rows


def write_ladder_record(folder: Path, ladder: Ladder, runs: Sequence[Run]) -> list[Path]:
    """Write a ladder's record: raw runs, README with the table, and the plot as PNG and SVG.

    Args:
        folder: made when missing; the files of an earlier record in it are replaced, each at once.
        ladder: the ladder that was measured.
        runs: runs of its rungs.

    Returns:
        The files written.

    Raises:
        InputError: no runs, runs of recipes that are not the ladder's, or matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    if not runs:
        raise InputError("a record needs runs", f"hotlap ladder {ladder.name}")
    published = {step.recipe.digest for step in resolve(ladder)}
    if changed := sorted({run.recipe.name for run in runs if run.recipe.digest not in published}):
        raise InputError(
            f"{', '.join(changed)} was changed, so its runs are no record of the ladder", "leave out --set and the like"
        )
    from hotlap.report.plots import plot_ladder

    folder.mkdir(parents=True, exist_ok=True)
    ordered = sorted(runs, key=lambda run: (run.recipe.name, run.seed))
    written = [_replace(folder / RUNS, "".join(json.dumps(run.to_dict(), sort_keys=True) + "\n" for run in ordered))]
    written += plot_ladder([r for r in ladder_rows(ladder, runs) if r.summary], folder / "ladder", title=ladder.title)
    written.append(_replace(folder / README, ladder_readme(ladder, ordered)))
    return written


def read_runs(folder: Path) -> list[Run]:
    """Read a record's raw runs.

    Raises:
        InputError: the file is missing or is not what ``write_ladder_record`` wrote.
    """
    try:
        lines = (folder / RUNS).read_text(encoding="utf-8").splitlines()
        return [Run.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder} holds no readable record: {error}") from None


def ladder_readme(ladder: Ladder, runs: Sequence[Run]) -> str:
    """Write a record's README from its raw runs alone, so that it can be checked against them."""
    rows = ladder_rows(ladder, runs)
    lines = [
        f"# {ladder.title}",
        "",
        f"Generated from the {len(runs)} runs in `{RUNS}` by `make records`; do not edit.",
        "Certified time is prepare + train + final evaluation (timing rules "
        f"{', '.join(sorted({str(run.timing_rules) for run in runs}))}), the median over runs; accuracy is the mean "
        "with its 95 % interval.",
        f"The published figures are from: {ladder.hardware}.",
        "",
        *ladder_markdown(rows),
        "",
        "## Machine",
        "",
        *_machines(runs),
        "",
        "![the ladder](ladder.svg)",
        "",
    ]
    return "\n".join(lines)


def ladder_markdown(rows: Sequence[LadderRow]) -> list[str]:
    """Write a ladder's rows as the lines of a Markdown table, with remarks on its marks below."""
    lines = [
        "| rung | change | published | published accuracy | runs | measured accuracy | at target | certified time "
        "| over rung 0 | over the one before |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    first = rows[0].summary
    before: LadderRow | None = None
    for row in rows:
        lines.append(_line(row, first.certified_s_median if first else None, before))
        before = row
    return [*lines, "", *_remarks(rows)]


def check_record(folder: Path) -> None:
    """Derive a record's README from its raw runs again.

    Raises:
        InputError: the README says something else, or there is no record.
    """
    runs = read_runs(folder)
    readme = ladder_readme(_ladder_of(runs), runs)
    if not (folder / README).exists() or (folder / README).read_text(encoding="utf-8") != readme:
        raise InputError(f"{folder / README} does not follow from {RUNS}", "write it anew: make records")


def _ladder_of(runs: Sequence[Run]) -> Ladder:
    return get_ladder(runs[0].recipe.name.split("/")[0])


def _line(row: LadderRow, first_s: float | None, before: LadderRow | None) -> str:
    def over(reference: float | None, own: float | None) -> str:
        return f"{reference / own:.2f}×" if reference and own else "–"

    accuracy = percent(row.published_accuracy) if row.published_accuracy is not None else "–"
    head = f"| {row.index} {row.name} | {row.title} | {row.published_text} | {accuracy} |"
    summary = row.summary
    if summary is None:
        return f"{head} 0 | – | – | – | – | – |"
    n = summary.n + summary.failed
    marks = ("†" if summary.stops_on_test else "") + ("" if summary.timing_valid else "‡")
    measured = percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)
    time = seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)
    previous = before.summary.certified_s_median if before and before.summary else None
    return (
        f"{head} {n} | {measured} | {round(summary.reached_share * n)} of {n} | {time} {marks} "
        f"| {over(first_s, summary.certified_s_median)} | {over(previous, summary.certified_s_median)} |"
    )


def _remarks(rows: Sequence[LadderRow]) -> list[str]:
    summaries = [row.summary for row in rows if row.summary]
    remarks = []
    if any(summary.stops_on_test for summary in summaries):
        remarks.append("† Stops on test accuracy, as published: its accuracy is optimistic by construction.")
    if any(not summary.timing_valid for summary in summaries):
        remarks.append("‡ Other work shared the machine during at least one run: accuracy counts, times do not.")
    return remarks


def _machines(runs: Sequence[Run]) -> list[str]:
    def text(run: Run) -> str:
        env = run.environment
        return (
            f"- {env.gpu or env.cpu}, {env.cores} cores, {env.threads} threads, {env.memory_gb:.0f} GB, "
            f"{env.platform}, Python {env.python}, torch {env.torch}, hotlap {env.hotlap}"
        )

    def commit(run: Run) -> str:
        return (run.environment.commit or "installed")[:12] + ("+" if "+" in (run.environment.commit or "") else "")

    total = sum(run.certified_s for run in runs)
    loads = [run.contention for run in runs if run.contention is not None]
    lines = sorted({text(run) for run in runs})
    lines.append(f"- source: {', '.join(sorted({commit(run) for run in runs}))} (+ is a modified tree)")
    lines.append(f"- {seconds(total)} of certified time in all, from {min(r.started_at for r in runs)} UTC on")
    if loads:
        lines.append(
            f"- other processes kept up to {max(loads):.2f} cores busy during a run, {_median(loads):.2f} in the median"
        )
    return lines


def _median(values: Sequence[float]) -> float:
    import statistics

    return statistics.median(values)


def _replace(path: Path, text: str) -> Path:
    """Write a file at once: a reader sees the old one or the new one."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def fill_in(document: str, records: Path) -> str:
    """Replace the tables of a Markdown document by the records'.

    Args:
        document: text with ``<!-- record NAME -->`` and ``<!-- end -->`` around each table.
        records: folder that holds the record NAME.

    Returns:
        The document with today's tables.

    Raises:
        InputError: a record that is named is not there.
    """

    def table(found: re.Match[str]) -> str:
        runs = read_runs(records / found["name"])
        lines = ladder_markdown(ladder_rows(_ladder_of(runs), runs))
        return "\n".join([f"<!-- record {found['name']} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- record (?P<name>[\w-]+) -->.*?<!-- end -->", table, document, flags=re.DOTALL)


def main(arguments: Sequence[Any]) -> int:
    """Write everything that follows from the records anew: their READMEs and plots, and the tables of documents.

    Args:
        arguments: the folder of records, then Markdown documents.
    """
    records, *documents = map(Path, arguments)
    for folder in sorted(path.parent for path in records.rglob(RUNS)):
        runs = read_runs(folder)
        for path in write_ladder_record(folder, _ladder_of(runs), runs):
            print(f"wrote {path}")
    for document in documents:
        _replace(document, fill_in(document.read_text(encoding="utf-8"), records))
        print(f"wrote {document}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
