"""The GPU programme, rehearsed on the CPU: every part runs, resumes, survives errors, and stops in time."""

from __future__ import annotations

import json
import sys
import tarfile
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from gpu_scripts import ONLY, lines, load_gpu, tiny
from torch.autograd import DeviceType

from hotlap.engine import backends
from hotlap.ladder import get_recipe, recipes
from hotlap.store import Store

PARTS = "correctness,records,peers,cifar,profile,memory"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return load_gpu()


PEER = """
print("|  run  |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |")
print("|  warmup  |  eval  |  0.1  |  0.1  |  0.1  |  9.9  |")
print("|  0  |  0  |  0.5  |  0.6  |    |  1.0  |")
print("|  0  |  eval  |  0.9  |  0.93  |  0.9412  |  2.5  |")
print("Mean: 0.9412    Std: 0.0000")
"""


def test_every_part_runs_and_nothing_is_repeated(gpu: ModuleType, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(PEER)
    out = tmp_path / "out"
    # Beside a recipe whose code is not compiled, which takes most of a minute where nothing is cached.
    arguments = tiny(out, PARTS, "--peer", f"{peer}={ONLY}")
    assert gpu.main(arguments) == 0
    [same] = lines(out, "correctness")
    assert same["fp32"] == 0.0 and same["fp32_agrees"] is True and same["fp16"] == 0.0, "the CPU against itself"
    assert (same["steps"], same["judged"], len(same["fp32_later"])) == (10, 6, 4)
    ours, beside = lines(out, "peers")
    assert (ours["side"], beside["side"]) == ("ours", "peer")
    assert beside["median_s"] == 2.5 and ours["median_s"] > 0
    assert [run["accuracy"] for run in beside["runs"]] == [0.1, 0.9412]
    [profile] = lines(out, "profile")
    assert 0 < profile["share_of_peak"] < 2 and profile["flop"] > 1e6
    assert [line["recipe"] for line in lines(out, "memory")] == [ONLY]
    assert all(line["gpu"] == "cpu" for path in out.glob("*.jsonl") for line in lines(out, path.stem))
    with Store(out / "runs.sqlite") as store:
        assert sorted(run.seed for run in store.runs()) == [0, 1], "records and ladder share their runs"
    before = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    assert gpu.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == before
    with Store(out / "runs.sqlite") as store:
        assert len(store.runs()) == 2


def test_short_runs_are_of_two_epochs(gpu: ModuleType, tmp_path: Path) -> None:
    assert gpu.main(tiny(tmp_path, "short")) == 0
    with Store(tmp_path / "runs.sqlite") as store:
        assert [(run.recipe.epochs, run.seed) for run in store.runs()] == [(2.0, 0), (2.0, 1)]


def test_the_rungs_of_mnist_run_too(gpu: ModuleType, tmp_path: Path) -> None:
    assert gpu.main(tiny(tmp_path, "mnist", "--seeds", "1", only="mnist/[678]*")) == 0
    with Store(tmp_path / "runs.sqlite") as store:
        names = [run.recipe.name for run in store.runs()]
    assert names == ["mnist/8-final", "mnist/7-narrower", "mnist/6-batch-256"]


def test_every_recipe_can_be_rehearsed(gpu: ModuleType, tmp_path: Path) -> None:
    programme = sys.modules["gpu_results"].Programme(out=tmp_path, device=torch.device("cpu"), minutes=9, tiny=True)
    for name in recipes():
        recipe = programme.recipe(name)
        (channels, *_), _ = programme.shape_of(recipe)
        assert channels == (3 if name.startswith("cifar10") else 1)
        assert programme.at_hand(name)
    assert gpu.main(tiny(tmp_path, "memory", only="fashion-mnist/*")) == 0
    assert gpu.main(tiny(tmp_path, "memory", only="cifar10-airbench/96-faster")) == 0
    held = [line for line in lines(tmp_path, "memory") if "error" not in line]
    assert len(held) == 1 + sum(fnmatch(name, "fashion-mnist/*") for name in recipes())


def test_what_claims_rest_on_are_recipes_for_gpus(gpu: ModuleType) -> None:
    assert gpu.FASTEST == ["mnist/record-gpu", "cifar10/record", "cifar10-airbench/94-muon"]


def test_what_is_cut_off_is_done_again_and_time_is_kept(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny(tmp_path, "memory")
    assert gpu.main([*arguments, "--minutes", "0"]) == 0
    assert "the time is up before memory" in capsys.readouterr().out
    assert gpu.main([*arguments, "--budget", "memory=0"]) == 0
    assert "the time is up before memory" in capsys.readouterr().out
    (tmp_path / "memory.jsonl").write_text('{"recipe": "cifar10-air')
    assert gpu.main(arguments) == 0
    cut_off, again = (tmp_path / "memory.jsonl").read_text().splitlines()
    assert (cut_off, json.loads(again)["recipe"]) == ('{"recipe": "cifar10-air', ONLY)


def test_what_was_done_on_another_gpu_is_not_done(gpu: ModuleType, tmp_path: Path) -> None:
    elsewhere = {"recipe": ONLY, "peak_bytes": 1, "gpu": "NVIDIA H100"}
    (tmp_path / "memory.jsonl").write_text(json.dumps(elsewhere) + "\n")
    assert gpu.main(tiny(tmp_path, "memory")) == 0
    assert [line["gpu"] for line in lines(tmp_path, "memory")] == ["NVIDIA H100", "cpu"]


@pytest.fixture
def failing(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of recipes whose training fails with an error that hotlap does not explain."""
    names: list[str] = []
    run = gpu.Session.run

    def sometimes(self: Any, recipe: Any, seed: int) -> Any:
        if recipe.name in names:
            raise ValueError("no such kernel\n" + "a long story")
        return run(self, recipe, seed)

    monkeypatch.setattr(gpu.Session, "run", sometimes)
    return names


def stored(out: Path) -> list[str]:
    with Store(out / "runs.sqlite") as store:
        return sorted({run.recipe.name for run in store.runs()})


def test_a_recipe_that_fails_is_marked_and_the_others_go_on(
    gpu: ModuleType, tmp_path: Path, failing: list[str]
) -> None:
    failing.append("mnist/7-narrower")
    arguments = tiny(tmp_path, "mnist", "--seeds", "1", only="mnist/[78]*")
    assert gpu.main(arguments) == 0
    [line] = lines(tmp_path, "mnist")
    assert line == {"recipe": "mnist/7-narrower", "error": "no such kernel", "kind": "ValueError", "gpu": "cpu"}
    assert stored(tmp_path) == ["mnist/8-final"]
    failing.clear()
    assert gpu.main(arguments) == 0
    assert stored(tmp_path) == ["mnist/8-final"], "it is left out"
    assert gpu.main([*arguments, "--again"]) == 0
    assert stored(tmp_path) == ["mnist/7-narrower", "mnist/8-final"]


def test_a_gpu_that_answers_no_more_ends_the_process_and_the_next_goes_on(
    gpu: ModuleType, tmp_path: Path, failing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.append("mnist/8-final")
    arguments = tiny(tmp_path, "mnist", "--seeds", "1", only="mnist/[78]*")
    with monkeypatch.context() as lost:
        lost.setattr(sys.modules["gpu_results"], "answers", lambda device: False)
        assert gpu.main(arguments) == 3
    assert [line["recipe"] for line in lines(tmp_path, "mnist")] == ["mnist/8-final"] and stored(tmp_path) == []
    assert gpu.main(arguments) == 0
    assert stored(tmp_path) == ["mnist/7-narrower"]


def test_a_process_that_ends_in_a_recipe_marks_it_for_the_next(gpu: ModuleType, tmp_path: Path) -> None:
    arguments = tiny(tmp_path, "mnist", "--seeds", "1", only="mnist/[78]*")
    programme = sys.modules["gpu_results"].Programme(out=tmp_path, device=torch.device("cpu"), minutes=9)
    under_way = programme.trying("mnist", "mnist/8-final")
    under_way.__enter__()
    assert gpu.main(arguments) == 0
    assert [(line["recipe"], line["kind"]) for line in lines(tmp_path, "mnist")] == [("mnist/8-final", "crash")]
    assert stored(tmp_path) == ["mnist/7-narrower"]
    with pytest.raises(KeyboardInterrupt), programme.trying("mnist", "mnist/7-narrower"):
        raise KeyboardInterrupt
    assert gpu.main(arguments) == 0
    assert len(lines(tmp_path, "mnist")) == 1, "an interruption is no fault of the recipe"


def test_a_part_that_fails_as_a_whole_is_left_out(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(to: object) -> float:
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    monkeypatch.setattr(gpu, "peak_flops", fails)
    for said in ("profile: recipe , error CUBLAS", "profile is left out: it ended in an error"):
        assert gpu.main(tiny(tmp_path, "profile,memory")) == 0
        assert said in capsys.readouterr().out
    assert len(lines(tmp_path, "memory")) == 1


def test_images_that_are_not_in_the_cache_are_left_alone(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "nothing"))
    parts = "correctness,records,peers"
    arguments = ["--out", str(tmp_path), "--device", "cpu", "--parts", parts, "--peer", "none.py", "--only", "*/record"]
    assert gpu.main(arguments) == 0
    said = capsys.readouterr().out
    assert "correctness: fashion-mnist/record is left out: fashion-mnist is not in the cache" in said
    assert "peers: cifar10/record is left out" in said
    assert not lines(tmp_path, "correctness") and not lines(tmp_path, "peers")


def test_everything_comes_back_in_one_file(gpu: ModuleType, tmp_path: Path) -> None:
    """Runs too that SQLite has not written into the store's own file yet, as when the process is killed."""
    out, bundle = tmp_path / "out", tmp_path / "back" / "results.tar.gz"
    assert gpu.main(tiny(out, "records,memory", "--bundle", str(bundle))) == 0
    with Store(out / "runs.sqlite") as open_store:
        run = open_store.runs()[0]
        for number in range(3):
            open_store.add(type(run).from_dict({**run.to_dict(), "id": f"{number:032x}"}))
        assert (out / "runs.sqlite-wal").stat().st_size > 0
        programme = sys.modules["gpu_results"].Programme(
            out=out, device=torch.device("cpu"), minutes=9, bundle=bundle
        )  # fmt: skip
        programme.keep()
        there = len(open_store)
    assert [path.name for path in bundle.parent.iterdir()] == ["results.tar.gz"]
    with tarfile.open(bundle) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    names = sorted(path.name for path in (tmp_path / "unpacked").iterdir())
    assert names == ["environment.jsonl", "memory.jsonl", "runs.sqlite"]
    with Store(tmp_path / "unpacked" / "runs.sqlite") as store:
        assert len(store) == there == 5


def test_losses_on_a_cpu_are_computed_beforehand(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["gpu_correctness"]
    file = tmp_path / "references.jsonl"
    arguments = tiny(tmp_path, "references", "--references", str(file))
    assert gpu.main(arguments) == 0
    before = file.read_text()
    assert gpu.main(arguments) == 0
    assert file.read_text() == before, "nothing is computed twice"
    trained: list[Any] = []
    losses_of = module.losses_of
    monkeypatch.setattr(module, "losses_of", lambda short, *rest: (trained.append(short), losses_of(short, *rest))[1])
    assert gpu.main(tiny(tmp_path, "correctness", "--references", str(file))) == 0
    assert [short.engine.precision for short in trained] == ["fp32", "fp16"], "the reference is read"
    assert lines(tmp_path, "correctness")[0]["fp32"] == 0.0
    file.write_text(before.replace('"data": "', '"data": "other') + '{"recipe": "cut o')
    assert len(module.References(file)._known) == 1


def test_recipes_that_are_alike_without_augmentation_are_compared_once(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["gpu_correctness"]
    trained: list[str] = []
    monkeypatch.setattr(module.References, "of", lambda *_: [1.0] * 10)
    monkeypatch.setattr(module, "losses_of", lambda short, *_: (trained.append(short.name), [1.0] * 10)[1])
    assert gpu.main(tiny(tmp_path, "correctness", only="cifar10-airbench/94-[jms]*")) == 0
    found = {line["recipe"].partition("/")[2]: line.get("same_as") for line in lines(tmp_path, "correctness")}
    first = "cifar10-airbench/94-jitter"
    assert found == {"94-jitter": None, "94-muon": first, "94-selective-tta": first, "94-silu": None}
    assert len(trained) == 4, "two recipes in two precisions"


def test_references_are_plain(gpu: ModuleType) -> None:
    module = sys.modules["gpu_correctness"]
    record = get_recipe("cifar10/record")
    ours, plain = module.comparable(record, "fp16", 50_000), module.reference(record, 50_000)
    assert ours.engine.compile and not plain.engine.compile and not plain.engine.fused
    assert plain.engine.precision == "fp32" and (ours.batch_size, ours.epochs) == (plain.batch_size, plain.epochs)


def test_later_steps_are_reported_and_not_judged(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["gpu_correctness"]
    apart = {"fp32": [1.0] * 6 + [1.7] * 4, "fp16": [1.0] * 5 + [1.06] + [1.0] * 4}
    monkeypatch.setattr(module.References, "of", lambda *_: [1.0] * 10)
    monkeypatch.setattr(module, "losses_of", lambda short, *_: apart[short.engine.precision])
    assert gpu.main(tiny(tmp_path, "correctness")) == 0
    [line] = lines(tmp_path, "correctness")
    assert line["fp32_agrees"] and not line["fp16_agrees"]
    assert line["fp32_later"] == pytest.approx([0.7] * 4)


def test_kernels_are_counted_once(gpu: ModuleType) -> None:
    """A profile holds them as kernels, and again as the time of the operations that started them."""

    def event(key: str, kind: DeviceType, us: float, **fields: Any) -> SimpleNamespace:
        return SimpleNamespace(
            key=key, device_type=kind, self_device_time_total=us, self_cpu_time_total=9.0, **fields
        )  # fmt: skip

    events = [
        event("aten::convolution", DeviceType.CPU, 300.0),
        event("sm90_conv", DeviceType.CUDA, 200.0, is_user_annotation=False),
        event("sm90_conv", DeviceType.CUDA, 100.0),
        event("Optimizer.step", DeviceType.CUDA, 300.0, is_user_annotation=True),
    ]
    assert gpu.spent_s(events, 2, gpu=True) == {"sm90_conv": pytest.approx(150e-6)}
    assert gpu.spent_s(events[:1], 3, gpu=False) == {"aten::convolution": pytest.approx(3e-6)}


def test_steps_choose_kernels_as_a_run_does_and_memory_is_a_recipes_own(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hotlap.engine.devices import choosing_kernels

    chose: list[bool] = []
    stepper = gpu.stepper

    def watched(*args: Any, **options: Any) -> Any:
        chose.append(torch.backends.cudnn.benchmark)
        assert len(chose) != 3 or not backends._kept
        return stepper(*args, **options)

    monkeypatch.setattr(gpu, "stepper", watched)
    monkeypatch.setattr(gpu, "choosing_kernels", lambda _: choosing_kernels(torch.device("cuda")))
    monkeypatch.setitem(backends._kept, ("earlier",), None)
    assert gpu.main(tiny(tmp_path, "profile,memory")) == 0
    assert chose == [True] * 3 and not torch.backends.cudnn.benchmark


def test_bad_input(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--parts", "memroy"], ["--budget", "memroy=2"]):
        assert gpu.main(["--out", str(tmp_path), "--device", "cpu", *wrong]) == 2
        assert "no such part: memroy" in capsys.readouterr().err
    assert gpu.main(["--out", str(tmp_path), "--device", "cuda:99"]) == 2
    assert "cuda" in capsys.readouterr().err
