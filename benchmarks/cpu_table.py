"""The table of benchmarks/cpu.py, from its stored lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cpu_contestants import BASELINE, CONTESTANTS
from hotlap.engine.contention import TOLERATED
from hotlap.report.formats import NONE, factor, interval, percent_with_interval, seconds_with_interval
from hotlap.stats.comparison import time_ratio
from hotlap.stats.intervals import MEDIAN_EXACT_N, mean, mean_interval, median, median_interval

TARGET = 0.99
HEAD = (
    "contestant", "accuracy", "runs", "≥ 99 %", "time", f"faster than {BASELINE}", "peak memory",
)  # fmt: skip

Lines = Sequence[Mapping[str, Any]]


def current(lines: Lines) -> dict[str, list[Mapping[str, Any]]]:
    """Return the lines by contestant that may be pooled: those of the newest line's machine and threads, of each one's
    newest version, and of a repeated run the newest."""
    chosen: dict[str, dict[tuple[int, int], Mapping[str, Any]]] = {}
    if not lines:
        return {}
    where = _where(lines[-1])
    newest = {line["contestant"]: _what(line) for line in lines if _where(line) == where}
    for line in lines:
        if _where(line) == where and _what(line) == newest[line["contestant"]]:
            chosen.setdefault(line["contestant"], {})[line["seed"], line["round"]] = line
    return {name: list(chosen[name].values()) for name in CONTESTANTS if name in chosen}


def _where(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line["cpu"], line["threads"]


def _what(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line["version"], sorted(line["versions"].items()), line["tiny"]


def row(lines: Lines, baseline: Lines) -> tuple[str, ...]:
    """Write the figures of one contestant."""
    # Another round of a seed trains the same again: it tells something about time only.
    by_seed = {line["seed"]: line["accuracy"] for line in reversed(lines)}
    accuracies = list(by_seed.values())
    counted = [line for line in lines if not line["contended"]]
    times = [line["seconds"] for line in counted or lines]
    spoilt = "" if counted else " ‡"
    return (
        CONTESTANTS[lines[0]["contestant"]].label,
        percent_with_interval(mean(accuracies), mean_interval(accuracies)),
        f"{len(lines)}" + (f", {len(lines) - len(counted)} ‡" if len(counted) < len(lines) else ""),
        f"{sum(accuracy >= TARGET for accuracy in accuracies)} of {len(accuracies)}",
        seconds_with_interval(median(times), median_interval(times)) + spoilt,
        _speed(lines, baseline),
        f"{median([line['peak_bytes'] / 2**20 for line in lines]):.0f} MiB",
    )


def _speed(lines: Lines, baseline: Lines) -> str:
    """By what factor it is faster than the baseline, over rounds in which both have run."""
    if not baseline or lines[0]["contestant"] == BASELINE:
        return NONE
    other = {(line["seed"], line["round"]): line for line in baseline}
    pairs = [(other[key], line) for line in lines if (key := (line["seed"], line["round"])) in other]
    counted = [(a, b) for a, b in pairs if not (a["contended"] or b["contended"])]
    if not pairs:
        return NONE
    times = [(a["seconds"], b["seconds"]) for a, b in counted or pairs]
    ratio = time_ratio([a for a, _ in times], [b for _, b in times])
    return f"{factor(ratio.ratio)} {interval(ratio.ci95, factor)}".strip() + ("" if counted else " ‡")


def table(lines: Lines) -> str:
    """Return everything that the stored lines say, as Markdown that also reads well in a terminal."""
    groups = current(lines)
    if not groups:
        return "nothing measured yet"
    rows = [HEAD, *(row(group, groups.get(BASELINE, ())) for group in groups.values())]
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(HEAD))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |" for cells in rows]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join([*text, "", *notes(groups)])


def notes(groups: Mapping[str, Lines]) -> list[str]:
    """Say what the figures mean, on which machine, with which versions."""
    every = [line for group in groups.values() for line in group]
    versions = dict(sorted(pair for line in every for pair in line["versions"].items()))
    commits = sorted({line["commit"][:10] for line in every if line.get("commit")})
    found = [
        f"{every[0]['cpu']}, {every[0]['threads']} thread{'s' * (every[0]['threads'] > 1)}; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + (f"; hotlap at {', '.join(commits)}" if commits else "")
        + ".",
        "Accuracy: mean over seeds ± half its 95 % interval. Time: median, with its 95 % interval (for fewer than "
        f"{MEDIAN_EXACT_N} runs their range), of preparing, training and evaluating the test images. The factor is "
        "over pairs of runs of one round. Peak memory is that of the whole process.",
        "Not in the time: " + "; ".join(f"{CONTESTANTS[n].label}: {CONTESTANTS[n].excluded}" for n in groups) + ".",
    ]
    if any(line["contended"] for line in every):
        found.append(
            f"‡ Other processes used more than {TOLERATED:.0%} of the machine: such a time counts only where there is "
            "no other."
        )
    return found
