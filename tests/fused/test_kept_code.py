"""Compiled code that torch keeps on the disk: a second process takes it, and one with other operations does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import triton_there

pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)

from hotlap.fused import norms, patches
from hotlap.fused.launch import named

PROGRAM = """
import json, torch
from torch._dynamo.utils import counters
from hotlap.fused import norms, patches

torch.manual_seed(0)
images = torch.randn(2, 3, 5, 5).contiguous(memory_format=torch.channels_last)
filters, bias = torch.randn(8, 3, 2, 2), torch.zeros(8)
scale, shift = torch.ones(8, requires_grad=True), torch.zeros(8, requires_grad=True)

def run(images, scale, shift):
    made = patches._patches(images, filters, bias, 2, 1.0, 8)
    return norms._forward(made, None, scale, shift, 1e-5, 2, 1.0, True)[0]

torch.compile(run, fullgraph=True, dynamic=False)(images, scale, shift).square().sum().backward()
counts = {part: dict(counters[part]) for part in ("aot_autograd", "inductor")}
print(json.dumps({**counts, "gradient": scale.grad.tolist()}))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's interpreter is not for machines with a GPU")
def test_a_second_process_takes_forward_and_backward_passes_from_the_disk(tmp_path: Path) -> None:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    # Settings of the user's that would switch off what is tested.
    for switch in (
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES",
        "TORCHINDUCTOR_FX_GRAPH_CACHE",
        "TORCHINDUCTOR_AUTOGRAD_CACHE",
    ):
        environment.pop(switch, None)
    first, second = (
        json.loads(subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True,
                                  check=True, timeout=300).stdout)
        for _ in range(2)
    )  # fmt: skip
    assert (first["aot_autograd"]["autograd_cache_miss"], first["inductor"]["fxgraph_cache_miss"]) == (1, 2)
    assert (second["aot_autograd"]["autograd_cache_hit"], second["inductor"]["fxgraph_cache_hit"]) == (1, 2)
    assert not [name for part in ("aot_autograd", "inductor") for name in second[part] if "bypass" in name]
    assert second["gradient"] == first["gradient"] and any(first["gradient"])


def test_operations_have_another_name_when_their_module_has_another_text(tmp_path: Path) -> None:
    text = tmp_path / "norms.py"
    text.write_bytes(Path(norms.__file__).read_bytes())
    name = norms._forward._opoverload._schema.name
    assert name == named("normalise", str(text))
    text.write_text(text.read_text(encoding="utf-8").replace("sums[1]", "2 * sums[1]"), encoding="utf-8")
    assert name != named("normalise", str(text))
    for operation, of in ((norms._backward, norms), (patches._patches, patches)):
        plain = operation._opoverload._schema.name.rpartition("_")[0].removeprefix("hotlap::")
        assert named(plain, of.__file__) == operation._opoverload._schema.name
