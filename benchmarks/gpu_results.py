"""What all parts of the GPU programme share: where results go, what is done, how long there is, and what went wrong."""

from __future__ import annotations

import json
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from hotlap import datasets
from hotlap.datasets import DataInfo
from hotlap.engine.backends import forget_trainers
from hotlap.engine.environment import capture
from hotlap.errors import HotlapError
from hotlap.ladder import get_recipe
from hotlap.recipe import Component, Recipe, part, paths

TINY_WIDTH, TINY_BATCH = 8, 16
KEEP_EVERY_S = 20.0


class LostDeviceError(Exception):
    """The GPU answers no more in this process: only a new one can go on."""


@dataclass(kw_only=True)
class Programme:
    """Results in a folder that grows from call to call, and how recipes are made smaller for a rehearsal.

    Every line names its GPU, and what was done on another one is not done.

    Args:
        out: the folder: ``PART.jsonl`` and stores of runs.
        device: where everything runs.
        minutes: start nothing new after this.
        tiny: rehearse on synthetic images.
        only: pattern of the recipes that are wanted.
        again: try what ended in an error again.
        budgets: most minutes of a part, by its name.
        bundle: a file that is to hold the whole folder, for machines that give few files back.
        seeds: most seeds of a recipe.
    """

    out: Path
    device: torch.device
    minutes: float
    tiny: bool = False
    only: str = "*"
    again: bool = False
    budgets: Mapping[str, float] = field(default_factory=dict)
    bundle: Path | None = None
    seeds: int | None = None

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.gpu = capture(self.device).gpu or "cpu"
        self._end = self._part_end = time.monotonic() + 60 * self.minutes
        self._kept = 0.0
        self._infos: dict[Component, DataInfo] = {}
        if self._begun.exists():
            last = json.loads(self._begun.read_text())
            self._begun.unlink()
            if last["gpu"] == self.gpu:
                self.write(last["part"], recipe=last["recipe"], error="the process ended in it", kind="crash")

    @property
    def _begun(self) -> Path:
        """Names the recipe that is under way; what the last process left behind ended it."""
        return self.out / "begun.json"

    @property
    def left_s(self) -> float:
        """Seconds left for the part that has begun."""
        return min(self._end, self._part_end) - time.monotonic()

    def begin(self, part_: str) -> None:
        """Begin a part: from now on its budget runs."""
        self._part_end = min(self._end, time.monotonic() + 60 * self.budgets.get(part_, self.minutes))

    def seeds_at_most(self, wanted: int) -> int:
        """Return how many seeds of a recipe to train, of those that a part wants."""
        return min(wanted, self.seeds or wanted, 2 if self.tiny else wanted)

    # -- lines --------------------------------------------------------------------------------------------------

    def lines(self, part_: str) -> list[dict[str, Any]]:
        """Return what a part has written on this GPU; a line that an interruption cut off does not count."""
        path = self.out / f"{part_}.jsonl"
        found = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [line for line in found if line.get("gpu") == self.gpu]

    def write(self, part_: str, **fields: Any) -> None:
        path = self.out / f"{part_}.jsonl"
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(fields | {"gpu": self.gpu}) + "\n")
        shown = {k: v for k, v in fields.items() if isinstance(v, str | int | float | bool) and k != "output"}
        text = (f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())
        print(f"{part_}: " + ", ".join(text), flush=True)
        self.keep(at_once=False)

    def todo(self, part_: str, names: Sequence[str]) -> Iterator[str]:
        """Yield the recipes that are wanted, can be trained here and have no line yet, as long as there is time."""
        done = {line["recipe"] for line in self.lines(part_) if not (self.again and "error" in line)}
        for name in names:
            if name in done or not fnmatch(name, self.only):
                continue
            if self.left_s <= 0:
                print(f"{part_}: the time is up before {name}", flush=True)
                return
            if not self.at_hand(name):
                print(f"{part_}: {name} is left out: {get_recipe(name).data.name} is not in the cache", flush=True)
                continue
            yield name

    def given_up(self, part_: str) -> bool:
        """Tell whether an error ended the whole part in an earlier call."""
        return not self.again and any(line.get("recipe") == "" and "error" in line for line in self.lines(part_))

    # -- errors -------------------------------------------------------------------------------------------------

    @contextmanager
    def trying(self, part_: str, recipe: str) -> Iterator[None]:
        """Write what goes wrong in the block as the recipe's line, and go on after it.

        Where it ends the process without a word, the next one writes the line.

        Args:
            part_: what runs.
            recipe: whose line; empty for the part as a whole.

        Raises:
            LostDeviceError: the GPU answers no more.
        """
        if recipe:
            self._begun.write_text(json.dumps({"part": part_, "recipe": recipe, "gpu": self.gpu}))
        try:
            yield
        except LostDeviceError:
            raise
        except Exception as error:
            first_line = (str(error).strip() or "no message").splitlines()[0]
            self.write(part_, recipe=recipe, error=first_line, kind=type(error).__name__)
            if not answers(self.device):
                raise LostDeviceError(f"{recipe or part_}: {first_line}") from error
            forget_trainers()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        finally:
            self._begun.unlink(missing_ok=True)

    # -- the folder as one file ---------------------------------------------------------------------------------

    def keep(self, *, at_once: bool = True) -> None:
        """Put the folder into the bundle, if there is to be one; else than at once, only every so often.

        Stores are copied as of their last whole run: what SQLite still holds in a second file is in the copy.
        """
        if self.bundle is None or not (at_once or time.monotonic() > self._kept + KEEP_EVERY_S):
            return
        self.bundle.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            files = [*self.out.glob("*.jsonl")]
            for store in self.out.glob("*.sqlite"):
                files.append(Path(folder) / store.name)
                with closing(sqlite3.connect(store)) as live, closing(sqlite3.connect(files[-1])) as copy:
                    live.backup(copy)
            half = self.bundle.with_name(self.bundle.name + ".part")
            with tarfile.open(half, "w:gz") as tar:
                for file in files:
                    tar.add(file, file.name)
            half.replace(self.bundle)
        self._kept = time.monotonic()

    # -- recipes ------------------------------------------------------------------------------------------------

    def recipe(self, name: str) -> Recipe:
        """Return a recipe, for a rehearsal much smaller and on synthetic images."""
        recipe = get_recipe(name)
        if not self.tiny:
            return recipe
        (channels, size, _), _ = self.shape_of(recipe)
        small = part(
            "synthetic", train=64, test=32, size=size, channels=channels, classes=10, seed=0, noise=0.2
        )  # fmt: skip
        changes: dict[str, Any] = {"data": small, "batch_size": TINY_BATCH, "epochs": 1.0}
        changes |= {"selection.keep": TINY_BATCH // 2} if recipe.selection is not None else {}
        for path in paths(recipe):
            if path.endswith("widths") or path.endswith("hidden"):
                value = paths(recipe)[path]
                assert isinstance(value, tuple)
                changes[path] = (TINY_WIDTH,) * len(value)
        return recipe.with_changes(changes)

    def at_hand(self, name: str) -> bool:
        """Tell whether a recipe's images are on this machine: nothing is fetched in mid-programme."""
        data = self.recipe(name).data
        try:
            return bool(datasets.options(data.name)) or self._info(data).cached
        except HotlapError:
            return True  # damaged: loading them says how

    def shape_of(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        """Return (C, H, W) of a recipe's images and the number of classes; nothing is fetched."""
        found = self._info(recipe.data)
        return (found.channels, *found.size), found.classes

    def _info(self, data: Component) -> DataInfo:
        """Asked once for each data set: the answer counts its pixels."""
        if data not in self._infos:
            self._infos[data] = datasets.info(data.name, **data.options)
        return self._infos[data]


def answers(device: torch.device) -> bool:
    """Tell whether a device still computes: after some errors CUDA refuses everything until the process ends."""
    if device.type != "cuda":
        return True
    try:
        torch.cuda.synchronize(device)
        return float(torch.ones(2, device=device).sum()) == 2
    except Exception:
        return False
