"""The engine's smaller parts: streams, devices, normalisation, evaluation, environment, contention, inspection."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from hotlap import datasets
from hotlap._source import source_digest
from hotlap.datasets import cache
from hotlap.datasets.base import image_data
from hotlap.engine import contention, environment
from hotlap.engine.devices import choose_device, use_threads
from hotlap.engine.feed import in_memory, make_feed, normalisation
from hotlap.engine.inspect import inspect_recipe
from hotlap.engine.network import initialise
from hotlap.engine.program import Program
from hotlap.engine.seeding import Streams
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.models import MODELS
from hotlap.recipe import part
from tiny import tiny

CPU = torch.device("cpu")


def test_streams_differ_from_each_other_and_between_seeds() -> None:
    seen = [
        stream for seed in range(200) for s in [Streams.of(seed)] for stream in (s.init, s.order, s.augment, s.noise)
    ]
    assert len(set(seen)) == len(seen)
    assert Streams.of(7) == Streams.of(7)


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("tpu", "cuda:99", "meta"):
        with pytest.raises(InputError, match="--device"):
            choose_device(name)


def test_threads_are_set_for_the_block_only() -> None:
    before = torch.get_num_threads()
    with use_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="at least 1"), use_threads(0):
        pass


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells which pages are in memory")
def test_mapped_images_are_read_before_the_clock_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"{kind}_{split}": rng.integers(0, 4, (count, 1, 64, 64) if kind == "x" else count, np.uint8)
        for split, count in (("train", 300), ("test", 50))
        for kind in ("x", "y")
    }
    entry = cache.install(tmp_path / "set", arrays, list("abcd"), root=tmp_path, source="here")
    data = cache.open_entry(entry, "set", fix="")
    assert resident(tmp_path / "set" / "x_train.npy") < data.x_train.nbytes // 2
    assert in_memory(data, CPU) is data
    for name in ("x_train", "x_test"):
        assert resident(tmp_path / "set" / f"{name}.npy") >= arrays[name].nbytes
    assert np.array_equal(data.x_train, arrays["x_train"])


def resident(file: Path) -> int:
    """Bytes of a mapped file that are in memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    found = 0
    for line in lines:
        if line.endswith(str(file)):
            found += 1024 * int(next(text for text in lines if text.startswith("Rss:")).split()[1])
    return found


def test_normalised_pixels_have_mean_zero_and_spread_one() -> None:
    recipe = tiny(data__channels=3, feed__shuffle="once")
    data = datasets.load("synthetic", **recipe.data.options)
    feed = make_feed(recipe, data, [Streams.of(0)], CPU)
    images = torch.cat([x for x, _ in feed.epoch()])
    assert images.shape == (512, 3, 12, 12)
    assert images.mean((0, 2, 3)) == pytest.approx(torch.zeros(3), abs=1e-5)
    assert images.std((0, 2, 3), correction=0) == pytest.approx(torch.ones(3), abs=1e-4)


def test_a_constant_channel_is_divided_by_one() -> None:
    x = np.full((8, 1, 4, 4), 255, np.uint8)
    y = np.arange(8, dtype=np.uint8) % 2
    data = image_data("flat", {"x_train": x, "y_train": y, "x_test": x, "y_test": y}, ["a", "b"])
    assert normalisation(tiny(), data) == ((1.0,), (1.0,))


@pytest.mark.parametrize("loading", ["device", "per-image"])
@pytest.mark.parametrize("shuffle", ["every-epoch", "once"])
def test_an_epoch_shows_every_image_once_with_its_label(loading: str, shuffle: str) -> None:
    recipe = tiny(feed__loading=loading, feed__shuffle=shuffle, feed__mean=(0.0,), feed__std=(1 / 255,), batch_size=100)
    data = datasets.load("synthetic", **recipe.data.options)
    # Each image carries its own index in two pixels, so that images and labels can be matched after shuffling.
    x = data.x_train.copy()
    x[:, 0, 0, 0], x[:, 0, 0, 1] = np.arange(len(x)) % 256, np.arange(len(x)) // 256
    arrays = {**data.arrays, "x_train": x}
    feed = make_feed(recipe, image_data("marked", arrays, data.class_names), [Streams.of(3)], CPU)
    orders = []
    for _ in range(2):
        index, labels = [], []
        for images, y in feed.epoch():
            index += (images[:, 0, 0, 0] + 256 * images[:, 0, 0, 1]).round().int().tolist()
            labels += y.tolist()
        assert sorted(index) == list(range(len(x)))
        assert labels == data.y_train[index].tolist()
        orders.append(index)
    assert orders[0] != sorted(orders[0])
    assert (orders[0] == orders[1]) == (shuffle == "once")


@pytest.mark.parametrize("together", [3, 100])
def test_batches_that_are_augmented_together_come_one_by_one(together: int) -> None:
    recipe = tiny(feed__mean=(0.0,), feed__std=(1 / 255,), batch_size=100, mixing=part("cutmix", size=0, last_epochs=1))
    data = datasets.load("synthetic", **recipe.data.options)
    one, several = (make_feed(recipe, data, [Streams.of(seed) for seed in (3, 4)], CPU) for _ in range(2))
    several._together = together  # type: ignore[attr-defined]
    pairs = list(zip(one.epoch(), several.epoch(), strict=True))
    assert len(pairs) == 6
    for (images, labels), (same, equal) in pairs:
        assert torch.equal(images, same) and torch.equal(labels, equal)


def test_the_order_follows_the_seed() -> None:
    data = datasets.load("synthetic", **tiny().data.options)

    def labels(seed: int) -> list[int]:
        return torch.cat([y for _, y in make_feed(tiny(), data, [Streams.of(seed)], CPU).epoch()]).tolist()

    assert labels(1) == labels(1) != labels(2)


def test_initialising_in_place_equals_building_anew() -> None:
    component = get_recipe("mnist/8-final").model
    torch.manual_seed(11)
    fresh = MODELS.build(component, shape=(1, 28, 28), classes=10)
    used = MODELS.build(component, shape=(1, 28, 28), classes=10)
    initialise(used, 11)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), used.parameters(), strict=True))


def test_the_environment_is_described() -> None:
    env = environment.capture(CPU)
    assert env.torch == torch.__version__
    assert env.threads == torch.get_num_threads()
    assert env.cores >= 1
    assert env.cpu
    assert env.memory_gb > 0
    assert env.source == source_digest() and len(env.source) == 64
    assert env.gpu is None


def _burn(seconds: float) -> None:
    """Use so many seconds of a processor, however long that takes."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_own_work_and_that_of_children_is_not_contention() -> None:
    """Processor time of this process and of its children, living and ended, counts as its own."""
    before = contention._own_busy()
    code = "import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass"
    # Processes of their own, not forks: a fork of this one would hold locks of torch's threads.
    ended, living = (subprocess.Popen([sys.executable, "-IS", "-c", code, limit]) for limit in ("0.3", "600"))
    try:
        _burn(0.3)
        assert ended.wait(60) == 0
        deadline = time.monotonic() + 60
        while psutil.Process(living.pid).cpu_times().user < 0.3:
            assert living.poll() is None and time.monotonic() < deadline, "it does not burn"
            time.sleep(0.01)
        used = contention._own_busy() - before
    finally:
        for process in (ended, living):
            process.kill()
            process.wait()
    assert used >= 0.85


def test_work_of_others_is_contention(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, own, wall = [10.0], [5.0], [0.0]
    monkeypatch.setattr(contention, "_machine_busy", lambda: machine[0])
    monkeypatch.setattr(contention, "_own_busy", lambda: own[0])
    monkeypatch.setattr(contention, "time", SimpleNamespace(perf_counter=lambda: wall[0]))
    monkeypatch.setattr(contention.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(contention.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    others = contention.Contention()
    machine[0], own[0], wall[0] = 30.02, 15.0, 10.0
    assert others.cores() == pytest.approx(1.0)
    monkeypatch.setattr(contention.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert others.cores() is None


def test_contention_is_tolerated_up_to_a_share_of_the_cores() -> None:
    assert not contention.is_contended(None, 2)
    assert not contention.is_contended(0.29, 2)
    assert contention.is_contended(0.31, 2)


def test_inspection_agrees_with_arithmetic_by_hand() -> None:
    recipe = get_recipe("mnist/8-final")
    facts = inspect_recipe(recipe, (1, 28, 28), 10, train_images=60_000, test_images=10_000)
    conv1, conv2 = 2 * 24 * 24 * 25 * 24, 2 * 10 * 10 * 9 * 24 * 32
    linear = 2 * 800 * 256 + 2 * 256 * 10
    assert facts.forward_flop == conv1 + conv2 + linear
    # Backward costs twice the forward, less the first layer's gradient with respect to the image.
    assert facts.training_flop == 3 * facts.forward_flop - conv1
    assert facts.recipe_flop == 60_000 * facts.training_flop + 10_000 * facts.forward_flop
    assert facts.parameters == 24 * 26 + 32 * (24 * 9 + 1) + 256 * 801 + 10 * 257
    assert sum(layer.parameters for layer in facts.layers) == facts.parameters
    assert [layer.output for layer in facts.layers[:2]] == [(24, 24, 24), (24, 12, 12)]
    assert not facts.bound
    assert inspect_recipe(get_recipe("mnist/1-early-stopping"), (1, 28, 28), 10, train_images=100, test_images=10).bound


def test_images_shrunk_below_what_the_network_takes_are_one_line() -> None:
    recipe = tiny(augment=(part("shrink", until=(0.5,), sides=(3,)),))
    with pytest.raises(InputError, match="the network does not take images of 3×3 pixels: "):
        inspect_recipe(recipe, (1, 12, 12), 4, train_images=100, test_images=10)


def test_a_network_is_compiled_anew_for_weights_that_stop_being_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        made.append(len(inputs))
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: real(f, **options, backend=backend))
    recipe = tiny(engine__compile=True)
    program = Program(recipe, (1, 12, 12), 4, CPU, 1)
    images, labels = torch.randn(4, 1, 12, 12), torch.arange(4)
    first = next(program.network.parameters())
    for trained in (True, False, True, False):
        first.requires_grad_(trained)
        program.losses(images, labels).backward()
    assert len(made) == 2
