"""What records work on a CUDA GPU, with CUDA's part played by a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hotlap.engine import recording
from hotlap.engine.recording import cuda_recorder, recorder_for
from hotlap.errors import InputError
from tiny import tiny


class Cuda:
    """What a recording asks of CUDA, and PyTorch's way to leave a recording that cannot be ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.streams: list[object] = []
        self.current: object = self.stream_of()
        self.started = self.current
        self.streams.clear()
        for name, value in {
            "Stream": self.stream_of, "stream": self.on, "current_stream": lambda _: self.current,
            "graph_pool_handle": lambda: (0, 1), "graph": self.recording,
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)

    def stream_of(self, device: object = None) -> object:
        stream = SimpleNamespace(wait_stream=lambda other: None)
        self.streams.append(stream)
        return stream

    @contextmanager
    def on(self, stream: object) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def recording(self, graph: object, pool: object, stream: object) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        except BaseException:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904
        self.current = before


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    recording._streams.cache_clear()
    yield Cuda(monkeypatch)
    recording._streams.cache_clear()


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (
            RuntimeError("an operation waits\nfor ever"),
            InputError,
            "cannot be recorded on cuda:0: an operation waits →",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError, "CUDA out of memory"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
    ids=["refused", "memory", "interrupted"],
)
def test_a_recording_that_fails_says_why_and_leaves_its_stream(
    cuda: Cuda, error: BaseException, becomes: type[BaseException], says: str | None
) -> None:
    calls = []

    def work() -> Tensor:
        calls.append(cuda.current)
        if len(calls) == 4:
            raise error
        return torch.zeros(())

    with pytest.raises(becomes, match=says):
        cuda_recorder(torch.device("cuda", 0))(work)
    assert cuda.current is cuda.started
    assert len({id(stream) for stream in calls}) == 2 and cuda.started not in calls


def test_all_recordings_on_a_gpu_share_two_streams(cuda: Cuda) -> None:
    for _ in range(2):
        record = cuda_recorder(torch.device("cuda", 0))
        for _ in range(3):
            record(lambda: torch.zeros(()))
    assert len(cuda.streams) == 2
    cuda_recorder(torch.device("cuda", 1))
    assert len(cuda.streams) == 4


def test_nothing_is_recorded_on_a_cpu_or_where_the_recipe_says_so(cuda: Cuda) -> None:
    gpu = torch.device("cuda", 0)
    assert recorder_for(tiny(), gpu) is not None
    assert recorder_for(tiny(), torch.device("cpu")) is None
    assert recorder_for(tiny(engine__cuda_graphs=False), gpu) is None
