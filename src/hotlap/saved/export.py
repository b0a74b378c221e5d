"""Saved models for other programs: ONNX and torch.export, each checked against the model before it is kept."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap._files import replace_file
from hotlap.errors import HotlapError, InputError
from hotlap.saved.folding import fold_norms
from hotlap.saved.model import SavedModel
from hotlap.startup import complete

Format: TypeAlias = Literal["onnx", "torch-export"]
Answer: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]

TOLERANCE = 1e-4
"""Greatest difference of a probability between what was exported and the model."""

_AT_ONCE = 500
_OTHERWISE = "try another --format, and report it"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, and how it compares with the model.

    Attributes:
        path: of the file.
        folded: batch normalisations that became part of a convolution.
        norms: batch normalisations of the network.
        images: images that were compared.
        difference: greatest difference of a probability from the model's in float32.
        changed: images whose most likely class is another.
    """

    path: Path
    folded: int
    norms: int
    images: int
    difference: float
    changed: int


class WholeModel(nn.Module):
    """Normalisation, the network, and a softmax where it is wanted.

    Args:
        model: whose network and normalisation.
        softmax: give probabilities; otherwise logits.

    Attributes:
        folded: batch normalisations that became part of a convolution.
        norms: batch normalisations of the network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: SavedModel, *, softmax: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(model.facts.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(model.facts.std).view(-1, 1, 1))
        self.network, self.folded, self.norms = fold_norms(model.network)
        self._softmax = softmax

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) float32 in 0–1 to probabilities or logits (N, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits.softmax(1) if self._softmax else logits


def export(
    model: SavedModel,
    path: str | Path,
    format_: Format,
    *,
    softmax: bool = True,
    images: NDArray[np.uint8] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Exported:
    """Write a model for other programs, unless it would answer otherwise than the model does in float32.

    The input is ``images``, (N, C, H, W) float32 in 0–1, for any N; normalisation is inside. The arithmetic is
    float32, also where the model's own is not. Test-time augmentation is not exported. The names of the classes are in
    the file: ONNX's metadata ``classes``, or the extra file ``classes.json`` of torch.export.

    Args:
        model: not modified.
        path: of the file; one that is there is replaced, if the new one passes.
        format_: ``onnx`` or ``torch-export``.
        softmax: give probabilities; otherwise logits.
        images: (N, H, W, C) uint8 to compare with; None for random ones.
        progress: told how many images have been compared, now and then.

    Raises:
        InputError: a library is missing, or the file cannot be written.
        HotlapError: what was exported answers otherwise than the model; nothing is written.
    """
    complete()
    path = Path(path)
    whole = WholeModel(model, softmax=softmax).eval()
    if images is None:
        channels, height, width = model.facts.shape
        images = np.random.default_rng(0).integers(0, 256, (256, height, width, channels), np.uint8)
    with torch.no_grad():
        content, answer = (_to_onnx if format_ == "onnx" else _to_torch)(whole, model)
        difference, changed = _compare(model, answer, images, progress, softmax=softmax)
    if math.isnan(difference):
        raise HotlapError("the exported model gives answers that are no numbers; nothing is written", _OTHERWISE)
    if not difference <= TOLERANCE:
        raise HotlapError(
            f"the exported model answers otherwise: probabilities differ by up to {difference:.2g}; nothing is written",
            _OTHERWISE,
        )
    replace_file(path, content)
    return Exported(path, whole.folded, whole.norms, len(images), difference, changed)


def _example(model: SavedModel) -> Tensor:
    # Two images: a batch of one would be taken for a constant.
    return torch.rand(2, *model.facts.shape, generator=torch.Generator().manual_seed(0))


def _to_torch(whole: WholeModel, model: SavedModel) -> tuple[bytes, Answer]:
    shapes = ({0: torch.export.Dim("N", min=1)},)
    program = torch.export.export(whole, (_example(model),), dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"classes.json": json.dumps(model.facts.classes)})
    file.seek(0)
    loaded = torch.export.load(file).module()

    def answer(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = loaded(torch.from_numpy(images)).numpy()
        return found

    return file.getvalue(), answer


def _to_onnx(whole: WholeModel, model: SavedModel) -> tuple[bytes, Answer]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise InputError(f"exporting ONNX needs {error.name}", "pip install 'hotlap[onnx]'") from None
    with _quiet_exporter():
        program = torch.onnx.export(
            whole,
            (_example(model),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["answers"],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
        )
    assert program is not None
    program.model.metadata_props["classes"] = json.dumps(model.facts.classes)
    program.model.metadata_props["recipe"] = model.facts.recipe.name
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def answer(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {"images": images})[0]
        return found

    return content, answer


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what torch's exporter says that nobody can act on; its errors are raised."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    # It misses torchvision, which has no part in it.
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # It uses what torch deprecates.
            warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated", FutureWarning)
            yield
    finally:
        log.setLevel(before)


def _compare(
    model: SavedModel,
    answer: Answer,
    images: NDArray[np.uint8],
    progress: Callable[[int], None],
    *,
    softmax: bool,
) -> tuple[float, int]:
    """Return the greatest difference of a probability, and how many images have another most likely class.

    The model answers in float32, as what is exported does. A difference that is not a number stays one.
    """
    plain = model.without_augmentation()
    difference, changed = 0.0, 0
    for batch in _split(images):
        given = answer(batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        found = given if softmax else torch.from_numpy(given).double().softmax(1).numpy()
        expected = plain.predict_proba(batch)
        # Unlike Python's max, NumPy's keeps what is not a number.
        difference = float(np.maximum(difference, np.abs(found - expected).max()))
        changed += int((found.argmax(1) != expected.argmax(1)).sum())
        progress(len(batch))
    return difference, changed


def _split(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), _AT_ONCE):
        yield images[start : start + _AT_ONCE]


def test_set_of(model: SavedModel) -> NDArray[np.uint8] | None:
    """Return the test images of the data that a model was trained on, (N, H, W, C); None where they are not here.

    Nothing is fetched for it.
    """
    from hotlap import datasets

    data: Any = model.facts.recipe.data
    try:
        if not datasets.options(data.name) and not datasets.info(data.name).cached:
            return None
        found = datasets.load(data.name, **data.options)
    except HotlapError:
        return None
    return found.x_test.transpose(0, 2, 3, 1) if found.digest == model.facts.data_digest else None
