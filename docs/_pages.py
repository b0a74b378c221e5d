"""Pages that follow from the code and the records: parts of a recipe, ladders, records, and the menu."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mkdocs_gen_files

from hotlap.catalogue import KINDS, Technique, techniques
from hotlap.ladder import AnyLadder, Step, ladders, own_records, resolve
from hotlap.recipe import Recipe, diff, paths, show_value
from hotlap.report.curves import changes_text
from hotlap.report.formats import percent_with_interval, seconds_with_interval
from hotlap.report.ladder_record import ladder_rows
from hotlap.report.record import record_folders
from hotlap.report.record_files import README, read_claim, read_runs

RECORDS = Path(__file__).parents[1] / "records"
_TARGET = re.compile(r"\]\((?P<file>[\w.-]+\.svg)\)")


def write(path: str, lines: list[str]) -> None:
    with mkdocs_gen_files.open(path, "w") as file:
        file.write("\n".join(lines) + "\n")


def measured() -> dict[str, list[str]]:
    """Return the names of the records that hold each ladder's runs."""
    found: dict[str, list[str]] = {}
    for folder in record_folders(RECORDS):
        claim = read_claim(folder)
        if claim["kind"] == "ladder":
            found.setdefault(claim["ladder"], []).append(folder.name)
    return found


@cache
def figures(record: str) -> dict[str, str]:
    """Return what a ladder's record measured of each rung: accuracy and certified time, with their intervals."""
    claim, runs = read_claim(RECORDS / record), read_runs(RECORDS / record)
    found = {}
    for row in ladder_rows(ladders()[claim["ladder"]], runs):
        if (own := row.summary) is not None:
            time = seconds_with_interval(own.certified_s_median, own.certified_s_ci95)
            changed = f" ({changes_text(claim['changes'])})" if claim.get("changes") else ""
            accuracy = percent_with_interval(own.accuracy_mean, own.accuracy_ci95)
            found[row.name] = f"{accuracy} in {time}{'' if own.timing_valid else ' ‡'}, n = {own.n}{changed}"
    return found


def users_of(technique: Technique) -> Iterator[tuple[AnyLadder, Step]]:
    """Every rung that brings a technique in: its recipe has it and its parent has not."""
    for ladder in ladders().values():
        for step in resolve(ladder) if ladder.name != "cifar10" else ():
            before = step.parent is not None and technique.used_by(step.parent)
            if technique.used_by(step.recipe) and not before:
                yield ladder, step


def own_records_with(technique: Technique) -> list[str]:
    """Names of the recipes of no ladder that have a technique."""
    return [recipe.name for recipe in own_records() if technique.used_by(recipe)]


def measured_of(rung: str, records: list[str]) -> str:
    """Write what each record of a ladder measured of a rung, with a link to the record."""
    shown = [f"[{figures(name)[rung]}](../../records/{name}.md)" for name in records if rung in figures(name)]
    return "; ".join(shown) or "–"


def part_page(technique: Technique, records: dict[str, list[str]]) -> None:
    card, options = technique.card, ", ".join(f"`{name}`" for name in technique.options) or "none"
    what = "Settings" if technique.kind == "settings" else "Options"
    lines = [f"# {technique.name}", "", card.does, "", f"**Published effect.** {card.effect}", ""]
    lines += [f"**{what}.** {options}", "", f"**Source.** {card.source}", ""]
    if steps := list(users_of(technique)):
        lines += ["## Rungs that bring it in", ""]
        lines += ["| rung | change | why | measured | the rung it changes |", "|---|---|---|---|---|"]
        for ladder, step in steps:
            link = f"[{step.recipe.name}](../../ladders/{ladder.name}.md)"
            before = step.parent.name.rpartition("/")[2] if step.parent is not None else ""
            cells = [measured_of(name, records.get(ladder.name, [])) for name in (step.rung.name, before)]
            lines.append(f"| {link} | {step.rung.title} | {step.rung.why} | {' | '.join(cells)} |")
        lines += ["", "Accuracy: mean and 95 % interval; certified time: median. ‡ Times that do not count."]
    if names := own_records_with(technique):
        lines += ["", "Used by " + ", ".join(f"[{name}](../../ladders/own-records.md)" for name in names) + "."]
    lines += ["", f"::: {technique.where}", ""]
    write(f"parts/{technique.kind}/{technique.name}.md", lines)


def ladder_page(ladder: AnyLadder, records: list[str]) -> None:
    lines = [f"# {ladder.title}", "", f"`hotlap ladder {ladder.name}`", ""]
    lines += [f"Published figures are from: {ladder.hardware}.", ""]
    if records:
        lines += ["Measured: " + ", ".join(f"[{name}](../records/{name}.md)" for name in records) + ".", ""]
    lines += ["| rung | change | published time | published accuracy | why |", "|---|---|---|---|---|"]
    for step in resolve(ladder):
        rung = step.rung
        accuracy = f"{rung.published.accuracy_text} %" if rung.published.accuracy is not None else "–"
        lines.append(f"| `{step.recipe.name}` | {rung.title} | {rung.published.time} | {accuracy} | {rung.why} |")
    if notes := [(s.rung.name, s.rung.deviation) for s in resolve(ladder) if s.rung.deviation]:
        lines += ["", "## What differs from the sources", ""]
        lines += [f"- `{name}`: {text}." for name, text in notes]
    write(f"ladders/{ladder.name}.md", lines)


def own_records_page() -> None:
    lines = ["# Own records", "", "Recipes that no publication describes and no ladder leads to."]
    shown: list[Recipe] = []
    for recipe in own_records():
        lines += ["", f"## {recipe.name}", "", f"`hotlap train {recipe.name}`", ""]
        before = next((other for other in shown if other.data == recipe.data), None)
        if before is None:
            lines += ["| key | value |", "|---|---|"]
            values = (
                (path, getattr(value, "name", None) or show_value(value)) for path, value in paths(recipe).items()
            )
            lines += [f"| `{path}` | {value} |" for path, value in values if path != "name"]
        else:
            lines += [f"As `{before.name}`, but for:", "", "| key | there | here |", "|---|---|---|"]
            changes = diff(before, recipe)
            lines += [f"| `{c.path}` | {show_value(c.before)} | {show_value(c.after)} |" for c in changes]
        shown.append(recipe)
    write("ladders/own-records.md", lines)


def record_page(folder: Path) -> None:
    text = (folder / README).read_text(encoding="utf-8")
    write(f"records/{folder.name}.md", [_TARGET.sub(rf"](files/{folder.name}-\g<file>)", text)])
    for picture in folder.glob("*.svg"):
        with mkdocs_gen_files.open(f"records/files/{folder.name}-{picture.name}", "wb") as file:
            file.write(picture.read_bytes())


def main() -> None:
    records = measured()
    menu = [
        "* [hotlap](index.md)", "* [Tutorial](tutorial.md)", "* [Timing and statistics](rules.md)", "* How to",
        "    * [Train on own images](how-to/own-images.md)", "    * [Run many seeds](how-to/many-seeds.md)",
        "    * [Train fast on a CPU](how-to/cpus.md)", "    * [Use a GPU](how-to/gpus.md)", "* Ladders",
    ]  # fmt: skip
    for ladder in ladders().values():
        ladder_page(ladder, records.get(ladder.name, []))
        menu.append(f"    * [{ladder.name}](ladders/{ladder.name}.md)")
    own_records_page()
    menu.append("    * [own records](ladders/own-records.md)")
    menu.append("* Records")
    index = ["# Records", "", "Raw runs with their evidence; every figure follows from them.", ""]
    menu.append("    * [All](records/index.md)")
    for folder in record_folders(RECORDS):
        record_page(folder)
        index.append(f"- [{folder.name}]({folder.name}.md)")
        menu.append(f"    * [{folder.name}](records/{folder.name}.md)")
    write("records/index.md", index)
    menu.append("* Techniques")
    for kind, (title, _) in KINDS.items():
        menu.append(f"    * {title}")
        for technique in techniques().values():
            if technique.kind == kind:
                part_page(technique, records)
                menu.append(f"        * [{technique.name}](parts/{kind}/{technique.name}.md)")
    menu += [
        "* [Python interface](reference.md)", "* [Compiled backend](native.md)", "* [Where the time goes](roofline.md)",
        "* [Questions](faq.md)",
        "* [Glossary](glossary.md)", "* [What was tried](log.md)",
    ]  # fmt: skip
    write("nav.md", menu)


main()
