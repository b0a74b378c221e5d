"""``hotlap export``: a saved model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

_LOW = {"bf16": "bfloat16", "fp16": "float16"}
_ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}


def export(
    model: Annotated[Path, typer.Argument(help="Saved model: hotlap train RECIPE --save FILE.")],
    format_: Annotated[Literal["onnx", "torch-export"], typer.Option("--format", help="What to write.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; else beside the model.")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Give logits instead of probabilities.")] = False,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Export a saved model, and check what was exported against it.

    Input: images (N, C, H, W) float32 in 0 to 1, for any N; normalisation is inside. Test-time augmentation is not
    exported, and the arithmetic is float32, also of a model that answers in bfloat16 or float16. What is written is
    compared with the model in float32, on the whole test set where that is on this machine; where probabilities differ
    by more than 0.0001 nothing is kept.
    """
    from hotlap.cli.progress import RunProgress
    from hotlap.engine.devices import use_threads
    from hotlap.saved import export as exporting
    from hotlap.saved import load

    path = out if out is not None else model.with_suffix(_ENDINGS[format_])
    loaded = load(model, device="cpu")
    if path.exists() and path.samefile(model):
        raise InputError(f"{path} is the saved model itself, which would be lost", "name another file: --out FILE")
    with RunProgress(0, quiet=quiet) as progress, use_threads(threads):
        images = exporting.test_set_of(loaded)
        progress.start(f"exporting to {path}", len(images) if images is not None else None)
        done = exporting.export(
            loaded, path, format_, softmax=not logits, images=images, progress=lambda n: progress.advance(n)
        )
        progress.done()
    facts = loaded.facts
    augmentation = facts.recipe.evaluation.augmentation
    document: dict[str, Any] = {
        "file": str(done.path),
        "format": format_,
        "input": {"name": "images", "shape": ["N", *facts.shape], "type": "float32", "range": [0, 1]},
        "output": "logits" if logits else "probabilities",
        "classes": list(facts.classes),
        "norms": done.norms,
        "norms_folded": done.folded,
        "images_compared": done.images,
        "on_test_set": images is not None,
        "largest_difference": done.difference,
        "other_answers": done.changed,
        "compared_in": "fp32",
        "model_precision": facts.precision,
        "augmentation_left_out": augmentation.name if augmentation is not None else None,
    }
    if json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    shape = ", ".join(map(str, document["input"]["shape"]))
    of = "test images" if document["on_test_set"] else "random images"
    low = _LOW.get(document["model_precision"])
    own = " in float32" if low is not None else ""
    lines = [
        f"{document['file']} maps images ({shape}) float32 in 0 to 1 to {document['output']}.",
        f"On {document['images_compared']:,} {of} its probabilities differ from the model's{own} by up to "
        f"{document['largest_difference']:.1e}; {document['other_answers']} get another class.",
    ]
    if low is not None:
        lines.append(f"The model was trained and measured in {low}; what is exported computes in float32.")
    if document["norms"]:
        lines.append(f"{document['norms_folded']} of {document['norms']} normalisations are folded into convolutions.")
    if document["augmentation_left_out"]:
        lines.append(f"The test-time augmentation ({document['augmentation_left_out']}) is not exported.")
    for line in lines:
        stdout().print(line, markup=False, soft_wrap=True)
