"""Saved Hugging Face data sets: columns by type, splits, damaged images, and no network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hotlap import datasets
from hotlap.bench.own_data import data_component
from hotlap.datasets.huggingface import _Cell
from hotlap.errors import DataError, InputError

hf = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")

pytestmark = pytest.mark.usefixtures("root")


def encoded(seed: int, size: tuple[int, int] = (8, 6)) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def made(count: int, labels: Any = None, *, label: Any = None, start: int = 0, **columns: Any) -> Any:
    label = label or hf.ClassLabel(names=["cat", "dog"])
    rows = {
        "picture": [encoded(start + at) for at in range(count)],
        "what": labels if labels is not None else [at % 2 for at in range(count)],
        **columns,
    }
    features = hf.Features({"picture": hf.Image(), "what": label, **{name: hf.Value("string") for name in columns}})
    return hf.Dataset.from_dict(rows, features=features)


def load(path: Path, **options: Any) -> datasets.ImageData:
    return datasets.load("huggingface", path=str(path), **options)


def test_splits_columns_and_pixels(tmp_path: Path) -> None:
    path = tmp_path / "pets"
    hf.DatasetDict({"train": made(10, note=["x"] * 10), "test": made(4, start=50, note=["y"] * 4)}).save_to_disk(path)
    data = load(path)
    assert (data.x_train.shape, data.x_test.shape, data.class_names) == ((10, 1, 6, 8), (4, 1, 6, 8), ("cat", "dog"))
    with Image.open(io.BytesIO(encoded(51)["bytes"])) as expected:
        assert np.array_equal(data.x_test[1, 0], np.asarray(expected))
    assert data.y_test.tolist() == [0, 1, 0, 1]
    assert load(path).digest == data.digest
    assert datasets.info("huggingface", path=path).cached


def test_a_single_split_holds_out_and_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "pets"
    made(20).save_to_disk(path)
    component = data_component(path)
    assert component.name == "huggingface"
    found = datasets.inspect(component.name, **component.options)
    assert (found.train, found.test, found.seen.held_out) == (16, 4, 4)
    seen = datasets.look("huggingface", path=path)
    assert seen is not None and seen.sizes == (((6, 8), 20),)


@pytest.mark.parametrize(
    ("label", "labels", "names"),
    [
        (hf.Value("string"), ["b", "a", "b", "a", "a", "b"], ("a", "b")),
        (hf.Value("int64"), [7, 3, 7, 3, 7, 3], ("3", "7")),
        (hf.Value("bool"), [True, False] * 3, ("False", "True")),
    ],
)
def test_labels_of_other_types(tmp_path: Path, label: Any, labels: list[Any], names: tuple[str, ...]) -> None:
    made(6, labels, label=label).save_to_disk(tmp_path / "x")
    data = load(tmp_path / "x")
    assert data.class_names == names
    assert sorted(np.concatenate([data.y_train, data.y_test]).tolist()) == [0, 0, 0, 1, 1, 1]


def test_rows_without_a_class_are_refused(tmp_path: Path) -> None:
    made(4, [0, 1, -1, 1]).save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match="labelled -1, which is no class"):
        load(tmp_path / "x")
    made(4, ["a", "b", None, "b"], label=hf.Value("string")).save_to_disk(tmp_path / "y")
    with pytest.raises(DataError, match="labelled None"):
        load(tmp_path / "y")


def test_damaged_images_are_named_or_passed_over(tmp_path: Path) -> None:
    rows = made(8)
    cells = [encoded(at) for at in range(8)]
    cells[3] = {"bytes": b"no image", "path": None}
    rows = hf.Dataset.from_dict({"picture": cells, "what": rows["what"][:]}, features=rows.features)
    rows.save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match="train image 3 is not an image"):
        load(tmp_path / "x")
    found = datasets.inspect("huggingface", path=tmp_path / "x", unreadable="skip")
    assert found.train + found.test == 7
    assert found.seen.unreadable == ("train image 3 is not an image of a known format",)


def named(folder: Path, count: int = 6) -> Path:
    """A saved set whose rows only name image files, with two columns of labels."""
    cells = []
    for at in range(count):
        file = folder / "images" / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(at)["bytes"])
        cells.append({"bytes": None, "path": str(file)})
    columns = {"picture": hf.Image(decode=False), "what": hf.Value("string"), "who": hf.Value("string")}
    rows = {"picture": cells, "what": ["a", "b"] * (count // 2), "who": ["x", "x", "y"] * (count // 3)}
    plain = hf.Dataset.from_dict(rows, features=hf.Features(columns))
    plain.save_to_disk(folder / "set")
    # Saving takes the files' bytes in, as not every version and not every tool does.
    (arrow,) = (folder / "set").glob("*.arrow")
    with pyarrow.OSFile(str(arrow), "wb") as file, pyarrow.ipc.new_stream(file, plain.data.table.schema) as stream:
        stream.write_table(plain.data.table)
    return folder / "set"


def test_images_that_rows_only_name_are_read_again_when_they_change(tmp_path: Path, root: Path) -> None:
    path = named(tmp_path)
    assert all(cell["bytes"] is None for cell in hf.load_from_disk(str(path))["picture"])
    before = load(path, label="what")
    assert load(path, label="what").digest == before.digest
    (tmp_path / "images" / "2.png").write_bytes(encoded(77)["bytes"])
    after = load(path, label="what")
    assert after.digest != before.digest
    assert len(list((root / "huggingface").iterdir())) == 1
    (tmp_path / "images" / "2.png").unlink()
    with pytest.raises(DataError, match="names a file that is not here"):
        load(path, label="what")


def test_each_choice_of_columns_stays_cached(tmp_path: Path, root: Path) -> None:
    path = named(tmp_path)
    digests = {label: load(path, label=label).digest for label in ("what", "who")}
    assert digests["what"] != digests["who"]
    for label in ("what", "who"):
        assert datasets.info("huggingface", path=path, label=label).cached
    assert len(list((root / "huggingface").iterdir())) == 2


def test_splits_that_are_not_used_are_named(tmp_path: Path) -> None:
    splits = {name: made(4, start=10 * at) for at, name in enumerate(("train", "test", "validation", "extra"))}
    hf.DatasetDict(splits).save_to_disk(tmp_path / "x")
    found = datasets.inspect("huggingface", path=tmp_path / "x")
    assert "neither trained nor tested on: validation, extra" in found.lines()


def test_cells_without_bytes(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(encoded(5)["bytes"])

    def cell(content: Any) -> _Cell:
        return _Cell([{"picture": content}], "picture", 0, "train image 0")

    assert cell({"bytes": None, "path": str(file)}).open().read() == file.read_bytes()
    with pytest.raises(DataError, match="names a file that is not here"):
        cell({"bytes": None, "path": "https://example.org/x.png"}).open()
    with pytest.raises(DataError, match="train image 0 has no image"):
        cell(None).open()


def test_what_cannot_be_used_says_why(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not what save_to_disk writes"):
        load(tmp_path / "plain")
    hf.DatasetDict({"all": made(4)}).save_to_disk(tmp_path / "named")
    with pytest.raises(DataError, match="has all but no train split"):
        load(tmp_path / "named")
    made(4, note=list("abcd")).save_to_disk(tmp_path / "x")
    with pytest.raises(InputError, match="no column 'nothing'"):
        load(tmp_path / "x", label="nothing")
    with pytest.raises(InputError, match="holds string, not Image"):
        load(tmp_path / "x", image="note")
    hf.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(tmp_path / "text")
    with pytest.raises(InputError, match=r"no column of Image, only text \(string\)"):
        load(tmp_path / "text")
    (tmp_path / "x" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "x")


def test_without_the_library_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(4).save_to_disk(tmp_path / "x")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'hotlap\[hf\]'"):
        load(tmp_path / "x")
