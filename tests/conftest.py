"""What every test gets: a run store of its own, numbers of its own, no GPU, and no leftovers of the user's settings."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before torch is imported anywhere: tests share the cores, and threads that spin while they wait for a core that is
# taken are slower by orders of magnitude than one thread. Child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

# What a shell starts in the background ignores interrupts, and so do its child processes; some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import HealthCheck, register_random, settings

from surroundings import OFFLINE, REQUIRE_ALL, remove_folder

GPU = torch.cuda.is_available()

# Read when Triton is imported: without a GPU, its interpreter runs the kernels.
if GPU:
    os.environ.pop("TRITON_INTERPRET", None)
else:
    os.environ["TRITON_INTERPRET"] = "1"


class _TorchNumbers:
    """torch's generator, as hypothesis asks for it: every example finds it as every other does."""

    # That of the CPU alone: to seed all devices' takes a thousand times as long.
    seed = staticmethod(torch.default_generator.manual_seed)
    getstate = staticmethod(torch.default_generator.get_state)
    setstate = staticmethod(torch.default_generator.set_state)


TORCH_NUMBERS = _TorchNumbers()
register_random(TORCH_NUMBERS)

# How long an example takes says more about a shared machine than about the code. What a change is judged by are the
# same examples everywhere; others are looked for with --hypothesis-profile=search (make test-search).
settings.register_profile(
    "hotlap", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("search", settings.get_profile("hotlap"), derandomize=False)
settings.load_profile("hotlap")


def pytest_unconfigure() -> None:
    remove_folder()


# What a machine cannot be given by installing something, and pairs of parameters that do not go together.
MAY_BE_SKIPPED = (
    *("no CUDA GPU", "one GPU only", "no matrix registers", "this processor has no", "imports of this torch are not"),
    *("with huge pages there are few page faults", "not for machines with a GPU"),
    *("Triton's interpreter multiplies", "one value cannot be normalised"),
)


def _required(report: Any) -> None:
    """Turn a skip into a failure where ``HOTLAP_REQUIRE_ALL`` asks for all that can be had."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason for text in MAY_BE_SKIPPED):
            report.outcome, report.longrepr = "failed", f"HOTLAP_REQUIRE_ALL forbids to skip this: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    report = yield
    _required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Any:
    report = yield
    _required(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """No GPU but for tests marked ``gpu``, and numbers of their own for the fixtures that several tests share.

    So names of data sets, devices and times are those of a CPU everywhere.
    """
    TORCH_NUMBERS.seed(0)
    with pytest.MonkeyPatch.context() as patch:
        if GPU and item.get_closest_marker("gpu") is None:
            patch.setattr(torch.cuda, "is_available", lambda: False)
            patch.setattr(torch.cuda, "device_count", lambda: 0)
            # For child processes; this one has asked for its GPUs already.
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return (yield)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("HOTLAP_STORE", str(path))
    return path


@pytest.fixture(autouse=True)
def own_numbers() -> None:
    """The same numbers for a test, whichever tests and fixtures drew some before it in its process."""
    TORCH_NUMBERS.seed(0)


@pytest.fixture(scope="session")
def published() -> Iterator[Any]:
    """A function that returns a published data set; it is fetched once where it is not in the cache."""
    from hotlap import datasets
    from hotlap.errors import DataError

    def load(name: str) -> datasets.ImageData:
        with pytest.MonkeyPatch.context() as patch:
            if OFFLINE:
                patch.setenv("HOTLAP_OFFLINE", OFFLINE)
            try:
                return datasets.load(name)
            except DataError as error:
                lacking = f"this test needs a data set: {error}"
        # Nothing but its own tests needs this one, and some networks have no copy of it.
        if name == "fashion-mnist":
            pytest.skip(lacking)
        pytest.fail(lacking, pytrace=False)

    yield load


@pytest.fixture(scope="session")
def mnist(published):  # type: ignore[no-untyped-def]
    """The real MNIST."""
    return published("mnist")
