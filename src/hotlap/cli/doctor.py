"""``hotlap doctor``: what this machine has, and whether times measured now can be trusted."""

from __future__ import annotations

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout


def doctor(store: options.StorePath = None, json: options.Json = False) -> None:
    """Look at the machine and the installation, and measure for two seconds how steady its times are.

    Exit status 1 when times cannot be trusted now.
    """
    from hotlap.bench.doctor import examine

    report = examine(store=store)
    noise = report.noise
    if json:
        print_json(report.as_dict())
        raise typer.Exit(int(not noise.trusted))
    console = stdout()
    for finding in report.findings:
        advice = f" → {finding.advice}" if finding.advice else ""
        mark = " " if finding.ok else "!"
        console.print(f"{mark} {finding.name:<10} {finding.found}{advice}", markup=False, soft_wrap=True)
    spreads = f"90th percentile over median {noise.single:.3f} on one thread"
    if noise.all_threads is not None:
        spreads += f", {noise.all_threads:.3f} on {noise.threads}"
    others = "unknown" if noise.contention is None else f"{noise.contention:.2f} cores"
    mark = " " if noise.trusted else "!"
    console.print(f"{mark} {'noise':<10} {spreads}; used by others: {others}", markup=False, soft_wrap=True)
    if noise.trusted:
        console.print("Times can be trusted now.")
    else:
        text = f"Times cannot be trusted now: {', and '.join(noise.problems)} → {noise.advice}"
        console.print(text, markup=False, soft_wrap=True)
    raise typer.Exit(int(not noise.trusted))
