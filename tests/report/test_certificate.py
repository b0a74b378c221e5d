from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from factories import make_environment, make_recipe, make_run
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.report.certificate import certificate_readme, judge, write_certificate
from hotlap.report.formats import percent_beside
from hotlap.report.record import check_record
from hotlap.report.record_files import read_claim, read_runs
from hotlap.result import Run
from hotlap.stats.summary import summarise


def runs(n: int, accuracy: float = 0.991, spread: float = 0.0005) -> list[Run]:
    return [make_run(seed=i, accuracy=accuracy + spread * (-1) ** i) for i in range(n)]


@pytest.mark.parametrize(
    ("these", "certified", "reason"),
    [
        (runs(10), True, "is at or above 99 %"),
        (runs(9), False, "9 runs are too few"),
        (runs(30, 0.9899), False, "is below 99 %"),
        # The mean is above the target, the lower bound of its interval is not.
        (runs(10, 0.9902, 0.001), False, "is below 99 %"),
        ([*runs(20), make_run(seed=20, accuracy=None, status="failed")], False, "1 of 21 runs failed"),
    ],
)
def test_the_rule(these: list[Run], certified: bool, reason: str) -> None:
    verdict = judge(summarise(these), 0.99)
    assert verdict.certified == certified
    assert reason in verdict.reason


def test_the_rule_holds_its_error_rate() -> None:
    """A recipe whose true mean is just below the target is certified in less than 2.5 % of the cases."""
    import numpy as np

    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(400):
        these = [make_run(seed=i, accuracy=a) for i, a in enumerate(rng.normal(0.98999, 0.0007, 12))]
        certified += judge(summarise(these), 0.99).certified
    assert certified / 400 < 0.05


def test_the_evidence_follows_from_the_runs(tmp_path: Path) -> None:
    shared = replace(runs(12)[11], timing_valid=False)
    written, verdict = write_certificate(tmp_path, [*runs(11), shared], 0.99)
    assert verdict.certified
    assert {path.name for path in written} == {"runs.jsonl", "record.json", "README.md"}
    readme = (tmp_path / "README.md").read_text()
    for text in (
        "99.100 %",
        "12 done, 0 failed",
        "12 of 12",
        "p < 0.001",
        "| 11 | 99.05 % | 15.0 s ‡ |",
        "| optimizer.lr |",
    ):
        assert text in readme
    check_record(tmp_path)
    (tmp_path / "README.md").write_text(readme.replace("99.100", "99.200"))
    with pytest.raises(InputError, match="does not follow"):
        check_record(tmp_path)


def test_forgeries_are_found_out(tmp_path: Path) -> None:
    write_certificate(tmp_path, runs(12, 0.98), 0.99)
    claim = tmp_path / "record.json"
    honest = claim.read_text()
    claim.write_text(honest.replace('"certified": false', '"certified": true'))
    with pytest.raises(InputError, match="says certified: True, but"):
        check_record(tmp_path)
    other = make_recipe(batch_size=7)
    claim.write_text(honest.replace(runs(1)[0].recipe.digest, other.digest))
    with pytest.raises(InputError, match="not of the recipe"):
        check_record(tmp_path)
    claim.write_text(honest.replace('"certificate"', '"diploma"'))
    with pytest.raises(InputError, match="unknown kind 'diploma'"):
        check_record(tmp_path)
    claim.write_text("[]")
    with pytest.raises(InputError, match="does not say what kind"):
        check_record(tmp_path)
    claim.write_text("{")
    with pytest.raises(InputError, match="no readable record"):
        check_record(tmp_path)


def test_a_seed_counts_once() -> None:
    with pytest.raises(InputError, match="twice"):
        write_certificate(Path("unused"), [*runs(10), runs(1)[0]], 0.99)


def test_a_recipe_that_stops_on_test_accuracy_is_never_certified() -> None:
    recipe = make_recipe(stop_at=0.99)
    verdict = judge(
        summarise([make_run(seed=seed, accuracy=0.995 + seed / 1e4, recipe=recipe) for seed in range(10)]), 0.99
    )
    assert not verdict.certified and "looking at the test images" in verdict.reason


def test_a_seed_that_was_written_twice_is_found_out(tmp_path: Path) -> None:
    runs = [make_run(seed=seed, accuracy=0.9951 + seed / 1e5) for seed in range(10)]
    write_certificate(tmp_path, runs, 0.99)
    lines = (tmp_path / "runs.jsonl").read_text().splitlines(True)
    (tmp_path / "runs.jsonl").write_text("".join([lines[0], *lines[:-1]]))
    with pytest.raises(InputError, match="a seed that comes twice"):
        certificate_readme(read_claim(tmp_path), read_runs(tmp_path))


@pytest.mark.parametrize(
    ("fraction", "limit", "digits", "text"),
    [
        (0.9899996, 0.99, 3, "98.99996 %"), (0.98997, 0.99, 3, "98.997 %"), (0.98996, 0.99, 2, "98.996 %"),
        (0.99, 0.99, 2, "99.00 %"), (0.991, 0.99, 2, "99.10 %"), (0.5, None, 2, "50.00 %"),
    ],
)  # fmt: skip
def test_what_misses_a_limit_is_not_rounded_up_to_it(
    fraction: float, limit: float | None, digits: int, text: str
) -> None:
    assert percent_beside(fraction, limit, digits) == text


def by_source(these: list[Run], *sources: str | None) -> list[Run]:
    return [
        replace(run, environment=make_environment(source=source)) for run, source in zip(these, sources, strict=True)
    ]


def test_the_source_is_that_of_the_runs(tmp_path: Path) -> None:
    """Train, edit a kernel and certify: the runs that are stored already were not made by what was edited."""
    a, b = "a" * 64, "b" * 64
    for name, sources, claimed, said in (
        ("one", [a] * 10, a, f"source `{a}`."),
        ("two", [a] * 4 + [b] * 6, None, f"source `{a}` (4 runs), `{b}` (6 runs)."),
        ("old", [a] * 4 + [None] * 6, None, f"source `{a}` (4 runs), not kept (6 runs)."),
        ("oldest", [None] * 10, None, "source not kept (10 runs)."),
    ):
        write_certificate(tmp_path / name, by_source(runs(10), *sources), 0.99)
        assert read_claim(tmp_path / name)["source_sha256"] == claimed
        assert said in (tmp_path / name / "README.md").read_text()
        check_record(tmp_path / name)
    claim = tmp_path / "one" / "record.json"
    claim.write_text(claim.read_text().replace(a, b))
    with pytest.raises(InputError, match="not made by the source"):
        check_record(tmp_path / "one")


def test_a_certificate_takes_no_other_files_place(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my project")
    with pytest.raises(InputError, match=r"holds a README.md that is no record's → choose another folder"):
        write_certificate(tmp_path, runs(10), 0.99)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"README.md": "my project"}
    own = tmp_path / "own"
    write_certificate(own, runs(10), 0.99)
    write_certificate(own, runs(12), 0.98)
    assert len(read_runs(own)) == 12, "an earlier record of the same recipe is replaced"
    other = make_recipe("other", batch_size=7)
    with pytest.raises(InputError, match="holds another record, a certificate of mnist/tiny"):
        write_certificate(own, [replace(run, recipe=other) for run in runs(10)], 0.99)
    assert len(read_runs(own)) == 12


def test_a_path_of_the_users_does_not_break_the_table(tmp_path: Path) -> None:
    recipe = make_recipe("own", data=part("folder", path="/data/a|b"))
    write_certificate(tmp_path, [replace(run, recipe=recipe) for run in runs(10)], 0.99)
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if "/data/a" in line]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)
