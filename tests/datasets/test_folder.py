"""Folders of images: layouts, colour modes, sizes, damage, links, and the cache of the decoded result."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hotlap import datasets
from hotlap.datasets import DataInfo, ImageData
from hotlap.datasets.images import read_header, read_pixels
from hotlap.errors import DataError, InputError

pytestmark = pytest.mark.usefixtures("root")


def paint(path: Path, mode: str = "L", size: tuple[int, int] = (6, 4), seed: int = 0, **save: Any) -> np.ndarray:
    """Write a random image of (width, height) and return its pixels."""
    bands = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    flat = pixels[..., 0] if bands == 1 else pixels
    Image.frombytes(mode, size, flat.tobytes()).save(path, **save)
    return pixels


def fill(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 5, **kind: Any) -> Path:
    for number, name in enumerate(classes):
        for index in range(each):
            paint(folder / name / f"{index}.png", seed=100 * number + index, **kind)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return tmp_path / "my pictures"


def load(path: Path, **options: Any) -> ImageData:
    return datasets.load("folder", path=str(path), **options)


def info(path: Path, **options: Any) -> DataInfo:
    return datasets.info("folder", path=path, **options)


def test_train_and_test_folders(pictures: Path) -> None:
    fill(pictures / "train", each=6)
    fill(pictures / "test", each=2)
    data = load(pictures)
    assert data.name == "my pictures" and data.class_names == ("cat", "dog")
    assert data.x_train.shape == (12, 1, 4, 6) and data.x_test.shape == (4, 1, 4, 6)
    assert data.y_test.tolist() == [0, 0, 1, 1]
    expected = np.asarray(Image.open(pictures / "test" / "dog" / "1.png"))
    assert np.array_equal(data.x_test[3, 0], expected)
    train = {np.asarray(Image.open(p)).tobytes(): p.parent.name for p in (pictures / "train").rglob("*.png")}
    for image, label in zip(data.x_train, data.y_train, strict=True):
        assert train.pop(image.tobytes()) == data.class_names[label]
    assert data.y_train.tolist() != sorted(data.y_train.tolist())  # not one class after the other


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_other_names_for_the_test_folder(pictures: Path, name: str) -> None:
    fill(pictures / "train")
    fill(pictures / name, each=1)
    assert len(load(pictures).x_test) == 2


def test_names_of_the_parts_in_capitals(pictures: Path) -> None:
    fill(pictures / "Train")
    fill(pictures / "TEST", each=2)
    data = load(pictures)
    assert (data.class_names, len(data.x_train), len(data.x_test)) == (("cat", "dog"), 10, 4)


def test_a_part_that_is_there_twice_is_refused(pictures: Path) -> None:
    for name in ("train", "test", "Test"):
        fill(pictures / name)
    if len(list(pictures.iterdir())) < 3:
        pytest.skip("this file system takes them for one")
    with pytest.raises(DataError, match=r"a part twice.*Test, test"):
        load(pictures)


def test_one_name_spelt_in_two_ways_is_refused(pictures: Path) -> None:
    fill(pictures, ("caf\u00e9", "cafe\u0301", "tea"))
    if len(list(pictures.iterdir())) < 3:
        pytest.skip("this file system takes them for one")
    with pytest.raises(DataError, match="two folders called caf\u00e9"):
        load(pictures)


def test_files_that_change_places_are_read_again(pictures: Path) -> None:
    fill(pictures, each=6)
    paths = [pictures / name / "0.bmp" for name in ("cat", "dog")]
    for seed, path in enumerate(paths):
        paint(path, seed=1000 + seed)
        os.utime(path, (1, 1))
    before = load(pictures).digest
    paths[0].rename(pictures / "aside")
    paths[1].rename(paths[0])
    (pictures / "aside").rename(paths[1])
    assert load(pictures).digest != before


def test_test_wins_over_val(pictures: Path) -> None:
    fill(pictures / "train")
    fill(pictures / "val", each=3)
    fill(pictures / "test", each=1)
    assert len(load(pictures).x_test) == 2


def test_holdout_is_stratified_and_repeatable(pictures: Path) -> None:
    fill(pictures, ("a", "b", "c"), each=20)
    for index in range(10, 20):
        (pictures / "a" / f"{index}.png").unlink()
    data = load(pictures, holdout=0.25)
    assert np.bincount(data.y_test).tolist() == [2, 5, 5]
    assert np.bincount(data.y_train).tolist() == [8, 15, 15]
    assert load(pictures, holdout=0.25).digest == data.digest
    assert load(pictures, holdout=0.25, seed=1).digest != data.digest
    everything = {image.tobytes() for image in np.concatenate([data.x_train, data.x_test])}
    assert len(everything) == 50
    assert "12 of 50 images held out for testing" in info(pictures, holdout=0.25).notes


def test_train_without_test_holds_out(pictures: Path) -> None:
    fill(pictures / "train", each=5)
    assert len(load(pictures).x_test) == 2


def test_train_can_be_a_class(pictures: Path) -> None:
    fill(pictures, ("train", "bus"))
    assert load(pictures).class_names == ("bus", "train")


def test_a_second_load_is_memory_mapped(pictures: Path, root: Path) -> None:
    fill(pictures)
    first = load(pictures)
    again = load(pictures)
    assert first.digest == again.digest
    assert isinstance(again.x_train.base, np.memmap) and not again.x_train.flags.writeable
    told = info(pictures)
    assert told.cached and told.where is not None and Path(told.where).parent == root / "folder"
    assert told.source == str(pictures)


def test_a_change_is_noticed_and_the_old_state_removed(pictures: Path, root: Path) -> None:
    fill(pictures)
    first = load(pictures)
    load(pictures, seed=3)  # another option of the same state
    assert len(list((root / "folder").iterdir())) == 2
    paint(pictures / "cat" / "0.png", seed=999)
    assert load(pictures).digest != first.digest
    assert len(list((root / "folder").iterdir())) == 1


def test_a_damaged_cache_is_read_again(pictures: Path, root: Path) -> None:
    fill(pictures)
    digest = load(pictures).digest
    (entry,) = (root / "folder").iterdir()
    (entry / "x_train.npy").write_bytes(b"")
    assert load(pictures).digest == digest
    assert (entry / "x_train.npy").stat().st_size > 0


def test_what_a_killed_process_left_is_removed(pictures: Path, root: Path) -> None:
    (root / "folder" / ".abc.tmp-1").mkdir(parents=True)
    fill(pictures)
    load(pictures)
    assert not (root / "folder" / ".abc.tmp-1").exists()


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pictures)
    expected = load(pictures).digest
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "file" / "cache"))
    assert load(pictures).digest == expected
    assert any("not cached: cannot write to the cache" in note for note in info(pictures).notes)


def test_names_of_all_kinds(pictures: Path) -> None:
    fill(pictures, ("größe 大", "with space"))
    paint(pictures / "größe 大" / "deep" / "er" / "ÄÖ.PNG", seed=5)
    paint(pictures / "with space" / "b.JPG", seed=6)
    data = load(pictures)
    assert data.class_names == ("größe 大", "with space")
    assert len(data.x_train) + len(data.x_test) == 12


def test_accents_may_be_written_two_ways(pictures: Path) -> None:
    fill(pictures / "train", ("caf\u00e9", "tea"))
    fill(pictures / "test", ("cafe\u0301", "tea"), each=1)
    assert load(pictures).y_test.tolist() == [0, 1]


@pytest.mark.skipif(os.name != "posix", reason="file names are text elsewhere")
def test_file_names_that_are_not_unicode(pictures: Path) -> None:
    fill(pictures)
    try:
        (pictures / "cat" / "0.png").rename(pictures / "cat" / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (pictures / "dog").rename(pictures / os.fsdecode(b"d\xffg"))
    assert load(pictures).digest == load(pictures).digest


def test_hidden_and_other_files_are_passed_over_and_counted(pictures: Path) -> None:
    fill(pictures)
    (pictures / "cat" / ".hidden.png").write_bytes(b"x")
    (pictures / "cat" / ".DS_Store").write_bytes(b"x")
    (pictures / ".git").mkdir()
    (pictures / "__MACOSX").mkdir()
    (pictures / "cat" / "Thumbs.db").write_bytes(b"x")
    (pictures / "readme.txt").write_text("x")
    assert load(pictures).classes == 2
    assert "2 files ignored that are not images" in info(pictures).notes


def test_links_back_up_end(pictures: Path) -> None:
    fill(pictures)
    (pictures / "cat" / "again").symlink_to(pictures / "cat")
    (pictures / "dog" / "up").mkdir()
    (pictures / "dog" / "up" / "top").symlink_to(pictures / "dog")
    data = load(pictures)
    assert len(data.x_train) + len(data.x_test) == 10


def test_linked_folders_and_files_count(pictures: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere")
    pictures.mkdir()
    (pictures / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (pictures / "dog").mkdir()
    for index in range(5):
        (pictures / "dog" / f"{index}.png").symlink_to(tmp_path / "elsewhere" / "dog" / f"{index}.png")
    assert len(load(pictures).x_test) == 2


def broken_link(folder: Path) -> None:
    (folder / "cat" / "x.png").symlink_to(folder / "gone.png")


def truncated(folder: Path) -> None:
    path = folder / "cat" / "x.png"
    paint(path, size=(60, 40))
    path.write_bytes(path.read_bytes()[:500])


def truncated_jpeg(folder: Path) -> None:
    paint(folder / "cat" / "x.jpg", "RGB", size=(60, 40))
    path = folder / "cat" / "x.jpg"
    path.write_bytes(path.read_bytes()[:800])


def bomb(folder: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    (folder / "cat" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))


def large(folder: Path) -> None:
    Image.new("1", (9000, 8000)).save(folder / "cat" / "x.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "cat" / "x.png").write_bytes(b""), r"cat/x\.png is not an image of a known format"),
        (lambda f: (f / "cat" / "x.png").write_bytes(b"hello"), r"cat/x\.png is not an image"),
        (truncated, r"cat/x\.png cannot be read \(.*truncated"),
        (truncated_jpeg, r"cat/x\.jpg cannot be read \(.*truncated"),
        (broken_link, r"cat/x\.png is not a file \(a broken link\?\)"),
        (lambda f: (f / "cat" / "x.png").mkdir(), None),
        (bomb, r"cat/x\.png has far more than 64000000 pixels"),
        (large, r"cat/x\.png is 8000x9000, more than 64000000 pixels"),
        (lambda f: os.mkfifo(f / "cat" / "x.png"), r"cat/x\.png is not a file"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    pictures: Path, spoil: Callable[[Path], None], message: str | None
) -> None:
    fill(pictures)
    spoil(pictures)
    if message is None:
        load(pictures, size=8, resize="crop")  # a folder with the name of an image is a folder
        return
    with pytest.raises(DataError, match=message) as caught:
        load(pictures, size=8, resize="crop")
    assert "\n" not in str(caught.value)


def test_no_garbage_ends_in_another_exception(pictures: Path) -> None:
    rng = random.Random(0)
    good = {}
    for suffix, mode in [("png", "RGB"), ("jpg", "RGB"), ("gif", "L"), ("tif", "RGBA"), ("webp", "RGB"), ("bmp", "L")]:
        paint(pictures / f"x.{suffix}", mode, size=(40, 30))
        good[suffix] = (pictures / f"x.{suffix}").read_bytes()
    refused = 0
    for trial in range(300):
        suffix = rng.choice(list(good))
        data = bytearray(good[suffix])
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(min(len(data), 200))] = rng.randrange(256)
        path = pictures / f"bad.{suffix}"
        path.write_bytes(data[: rng.randint(1, len(data))] if trial % 3 == 0 else data)
        try:
            read_header(path, "bad")
            read_pixels(path, "bad", channels=3, size=(5, 5), resize="stretch")
        except DataError:
            refused += 1
    assert refused > 50


def test_mixed_sizes_are_refused_with_counts_and_the_way_out(pictures: Path) -> None:
    fill(pictures)
    paint(pictures / "dog" / "odd.png", size=(8, 8))
    with pytest.raises(DataError) as caught:
        load(pictures)
    assert caught.value.cause == (
        "images have 2 sizes (height x width): 4x6 (10, e.g. cat/0.png), 8x8 (1, e.g. dog/odd.png)"
    )
    assert caught.value.fix == "pass size=[4, 6] and resize=stretch, crop or pad"
    with pytest.raises(DataError, match="images are not all 8x8"):
        load(pictures, size=8)
    with pytest.raises(DataError, match="2 sizes"):
        load(pictures, resize="crop")
    assert load(pictures, size=[4, 6], resize="stretch").size == (4, 6)


def test_one_size_needs_no_option_and_another_is_refused(pictures: Path) -> None:
    fill(pictures)
    assert load(pictures).size == load(pictures, size=[4, 6]).size == (4, 6)
    with pytest.raises(DataError, match=r"not all 28x28: 4x6 \(10") as caught:
        load(pictures, size=28)
    assert caught.value.fix == "pass resize=stretch, crop or pad"


def test_stretch_crop_and_pad(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    wide = np.zeros((10, 20), np.uint8)
    wide[:, 5:15] = 200  # the middle square
    Image.fromarray(wide).save(path)
    kind: dict[str, Any] = {"channels": 1, "size": (10, 10)}
    assert (read_pixels(path, "x", resize="crop", **kind) == 200).all()
    stretched = read_pixels(path, "x", resize="stretch", **kind)[0]
    assert stretched[:, 5].min() == 200 and stretched[:, 0].max() == 0
    padded = read_pixels(path, "x", resize="pad", **kind)[0]
    assert padded[0].max() == padded[-1].max() == 0 and padded[5, 5] == 200
    with pytest.raises(DataError, match="x is 10x20, not 10x10"):
        read_pixels(path, "x", resize="refuse", **kind)


def pixels_of(path: Path, channels: int = 3) -> np.ndarray:
    height, width = read_header(path, "x").size
    return read_pixels(path, "x", channels=channels, size=(height, width), resize="refuse")


def test_modes(tmp_path: Path) -> None:
    grey = paint(tmp_path / "l.png", "L")
    assert np.array_equal(pixels_of(tmp_path / "l.png", 1)[0], grey[..., 0])
    assert np.array_equal(pixels_of(tmp_path / "l.png"), np.repeat(grey.transpose(2, 0, 1), 3, 0))
    rgb = paint(tmp_path / "rgb.png", "RGB")
    assert np.array_equal(pixels_of(tmp_path / "rgb.png"), rgb.transpose(2, 0, 1))
    weighted = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels_of(tmp_path / "rgb.png", 1)[0] - weighted).max() <= 1

    rgba = paint(tmp_path / "rgba.png", "RGBA").astype(float)
    on_white = rgba[..., :3] * rgba[..., 3:] / 255 + 255 - rgba[..., 3:]
    assert np.abs(pixels_of(tmp_path / "rgba.png") - on_white.transpose(2, 0, 1)).max() <= 1
    la = paint(tmp_path / "la.png", "LA").astype(float)
    expected = la[..., 0] * la[..., 1] / 255 + 255 - la[..., 1]
    assert np.abs(pixels_of(tmp_path / "la.png", 1)[0] - expected).max() <= 1

    Image.fromarray(rgb).quantize(16).save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:
        assert image.mode == "P"
        assert np.array_equal(pixels_of(tmp_path / "p.png"), np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    Image.fromarray(rgb).quantize(16).save(tmp_path / "t.png", transparency=0)
    assert (pixels_of(tmp_path / "t.png") == 255).all(axis=0).any()  # where it was transparent

    bits = grey[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "1.png")
    assert np.array_equal(pixels_of(tmp_path / "1.png", 1)[0], bits * np.uint8(255))
    paint(tmp_path / "cmyk.jpg", "CMYK")
    assert pixels_of(tmp_path / "cmyk.jpg").shape == (3, 4, 6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_uses_its_full_range(tmp_path: Path, suffix: str) -> None:
    wide = np.array([[0, 128, 129, 257], [32768, 65407, 65406, 65535]], np.uint16)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(wide).save(path)
    assert read_header(path, "x").grey
    assert np.array_equal(pixels_of(path, 1)[0], np.rint(wide / 257).astype(np.uint8))


def test_32_bit_grey(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(tmp_path / "i.tif")
    assert pixels_of(tmp_path / "i.tif", 1)[0].tolist() == [[0, 255]]
    Image.fromarray(np.array([[0, 65536]], np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(DataError, match="beyond 16 bits"):
        pixels_of(tmp_path / "i.tif", 1)
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match="floating-point"):
        pixels_of(tmp_path / "f.tif", 1)


def test_camera_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    pixels = paint(tmp_path / "x.png", "L", size=(6, 4), exif=exif)
    assert read_header(tmp_path / "x.png", "x").size == (6, 4)
    assert np.array_equal(pixels_of(tmp_path / "x.png", 1)[0], np.rot90(pixels[..., 0], -1))
    paint(tmp_path / "x.jpg", "L", size=(16, 8), exif=exif)
    assert pixels_of(tmp_path / "x.jpg", 1).shape == (1, 16, 8)


def test_channels_follow_the_images_unless_given(pictures: Path) -> None:
    fill(pictures)
    assert load(pictures).channels == 1
    assert load(pictures, channels=3).channels == 3
    paint(pictures / "cat" / "colour.png", "RGB")
    assert load(pictures).channels == 3
    assert load(pictures, channels=1).channels == 1
    with pytest.raises(InputError, match="channels"):
        load(pictures, channels=2)


def test_a_grey_palette_is_grey(pictures: Path) -> None:
    for name in ("a", "b"):
        for index in range(3):
            pixels = paint(pictures / name / "x.png", "L", seed=index)
            Image.fromarray(pixels[..., 0]).convert("P").save(pictures / name / f"{index}.gif")
        (pictures / name / "x.png").unlink()
    assert load(pictures).channels == 1


def test_many_classes(pictures: Path) -> None:
    fill(pictures, tuple(f"c{index:03}" for index in range(260)), each=2, size=(2, 2))
    data = load(pictures)
    assert data.classes == 260 and data.y_train.dtype == np.int32 and len(data.y_test) == 260
    assert load(pictures).y_train.dtype == np.int32  # from the cache too


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.mkdir(), "has no class folders"),
        (lambda p: paint(p / "x.png"), "has images but no class folders"),
        (lambda p: fill(p, ("only",)), "has a single class, 'only'"),
        (lambda p: (fill(p), (p / "empty").mkdir()), r"class folder .*empty has no images"),
        (lambda p: (fill(p), (p / "text" / "sub").mkdir(parents=True)), r"class folder .*text has no images"),
        (lambda p: (fill(p / "train"), fill(p / "test", ("cat", "cow"))), "lack: cow"),
        (lambda p: (fill(p / "train"), (p / "test" / "cat").mkdir(parents=True)), r"test/cat has no images"),
        (lambda p: (fill(p / "train"), (p / "test").mkdir(parents=True)), r"test has no class folders"),
        (lambda p: fill(p / "val"), "has val but no train folder"),
        (lambda p: [paint(p / part / f"{at}.png") for part in ("train", "test") for at in range(3)], "no class folder"),
        (
            lambda p: [paint(p / part / f"{at}.png") for part in ("train", "test1") for at in range(3)],
            "no class folder",
        ),
        (
            lambda p: (fill(p / "train"), paint(p / "train" / "x.png"), fill(p / "test")),
            r"train has images that are in",
        ),
        (lambda p: [paint(p / part / "x.png") for part in ("Train", "val", "more")], r"Train has images that are in"),
        (lambda p: (fill(p / "test"), (p / "train").mkdir()), r"train has no class folders"),
        (lambda p: (fill(p / "training"), fill(p / "testing")), "testing, training: parts of a set, not its classes"),
        (lambda p: fill(p, each=1), "class 'cat' has 1 image, too few"),
    ],
)
def test_layouts_that_cannot_be_used(pictures: Path, make: Callable[[Path], Any], message: str) -> None:
    make(pictures)
    with pytest.raises(DataError, match=message) as caught:
        load(pictures)
    assert caught.value.fix and "\n" not in str(caught.value)


def test_parts_that_are_not_used_are_named(pictures: Path) -> None:
    for name in ("train", "test", "val"):
        fill(pictures / name)
    (pictures / "drafts").mkdir()
    before = load(pictures).digest
    assert "neither trained nor tested on: drafts/, val/" in info(pictures).notes
    assert "neither trained nor tested on: drafts/, val/" in datasets.inspect("folder", path=pictures).lines()
    (pictures / "drafts").rmdir()
    assert "neither trained nor tested on: val/" in info(pictures).notes
    assert load(pictures).digest == before
    assert datasets.inspect("folder", path=pictures).as_dict()["unused"] == ["val/"]  # from the cache too


@pytest.mark.parametrize("name", ["x", "x.png"])
def test_a_link_to_itself_is_one_broken_entry(pictures: Path, name: str) -> None:
    fill(pictures)
    (pictures / "cat" / name).symlink_to(pictures / "cat" / name)
    if name == "x":
        assert "1 files ignored that are not images" in info(pictures).notes
        return
    with pytest.raises(DataError, match=r"cat/x\.png is not a file"):
        load(pictures)
    found = datasets.inspect("folder", path=pictures, unreadable="skip")
    assert found.seen.unreadable == ("cat/x.png is not a file (a broken link?)",)
    assert found.train + found.test == 10


@pytest.mark.parametrize("part", ["training", "test"])
def test_a_part_of_which_nothing_can_be_read_is_named(pictures: Path, part: str) -> None:
    fill(pictures / "train")
    fill(pictures / "test")
    for file in (pictures / {"training": "train", "test": "test"}[part]).rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"none of the {part} images can be read"):
        load(pictures, unreadable="skip")


def test_odd_metadata_leaves_an_image_in(pictures: Path) -> None:
    fill(pictures, size=(6, 6))
    paint(pictures / "cat" / "odd.png", size=(6, 6), seed=7, exif=b"Exif\0\0no metadata")
    found = datasets.inspect("folder", path=pictures, unreadable="skip")
    assert (found.train + found.test, found.seen.unreadable) == (11, ())
    assert len(load(pictures).x_train) == found.train


def test_turned_tiffs_have_the_size_that_they_show(pictures: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, name in enumerate(("cat", "dog")):
        for index in range(4):
            paint(pictures / name / f"{index}.tif", size=(40, 30), seed=10 * number + index, exif=exif)
    seen = datasets.look("folder", path=pictures)
    assert seen is not None and seen.sizes == (((40, 30), 8),)
    assert load(pictures).size == load(pictures, unreadable="skip").size == (40, 30)


def test_an_image_that_fails_late_is_passed_over_like_one_that_fails_early(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pictures)

    def failing(path: Path, shown: str, **kind: Any) -> np.ndarray:
        if shown == "cat/3.png":
            raise DataError(f"{shown} cannot be read (too odd)", "remove it")
        return read_pixels(path, shown, **kind)

    monkeypatch.setattr("hotlap.datasets.pictures.read_pixels", failing)
    with pytest.raises(DataError, match="too odd"):
        load(pictures)
    found = datasets.inspect("folder", path=pictures, unreadable="skip")
    assert found.seen.unreadable == ("cat/3.png cannot be read (too odd)",)
    (pictures / "cat" / "3.png").unlink()
    assert load(pictures).digest == found.digest


def test_a_class_without_test_images_is_noted(pictures: Path) -> None:
    fill(pictures / "train")
    fill(pictures / "test", ("cat",))
    assert "1 of 2 classes have no test image" in info(pictures).notes


def test_paths_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the option path"):
        datasets.load("folder")
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "gone")
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"is a file → for an \.npz file use the data set 'arrays'"):
        load(tmp_path / "x.npz")
    with pytest.raises(InputError, match="cannot be read"):
        load(Path("x" * 5000))
    with pytest.raises(InputError, match="did you mean 'crop'"):
        load(tmp_path, resize="crops")
    for holdout in (0, 1, -0.5, "half", True):
        with pytest.raises(InputError, match="holdout must be between 0 and 1"):
            load(tmp_path, holdout=holdout)


def test_more_than_the_memory_is_refused_first(pictures: Path) -> None:
    fill(pictures)
    with pytest.raises(DataError, match="GB of memory"):
        load(pictures, size=60_000, resize="stretch")
