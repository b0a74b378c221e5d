"""Parsers: what was written is read back, and anything else is a DataError and nothing worse."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from hotlap.datasets import decode
from hotlap.datasets.cifar10 import parse_labels
from hotlap.errors import DataError

uint8 = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8))
quick = settings(deadline=None, max_examples=60)


@quick
@given(uint8)
def test_idx_round_trip(array: np.ndarray) -> None:
    assert np.array_equal(decode.parse_idx(decode.encode_idx(array), array.ndim), array)


@quick
@given(uint8, st.integers(-6, 6).filter(bool))
def test_idx_of_another_length_is_refused(array: np.ndarray, by: int) -> None:
    data = decode.encode_idx(array)
    data = data[:by] if by < 0 else data + b"\0" * by
    with pytest.raises(DataError):
        decode.parse_idx(data, array.ndim)


@quick
@given(uint8, st.integers(0, 15), st.integers(1, 255))
def test_idx_with_a_changed_header_is_refused(array: np.ndarray, at: int, flip: int) -> None:
    data = bytearray(decode.encode_idx(array))
    at %= 4 + 4 * array.ndim
    data[at] ^= flip
    with pytest.raises(DataError):
        decode.parse_idx(bytes(data), array.ndim)


@quick
@given(st.binary(max_size=200), st.sampled_from([1, 3]))
def test_idx_garbage(data: bytes, ndim: int) -> None:
    with pytest.raises(DataError):
        decode.parse_idx(data, ndim)


def test_idx_header_that_overflows() -> None:
    data = b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    with pytest.raises(DataError, match="promises"):
        decode.parse_idx(data, 3)


def csv(array: np.ndarray, end: bytes, last: bool) -> bytes:
    head = b",".join(b"c%d" % i for i in range(array.shape[1]))
    lines = [head, *(b",".join(b"%d" % v for v in row) for row in array.tolist())]
    return end.join(lines) + (end if last else b"")


tables = hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 6)))


@quick
@given(tables, st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_csv_round_trip(array: np.ndarray, end: bytes, last: bool) -> None:
    assert np.array_equal(decode.parse_csv(csv(array, end, last), array.shape[1]), array)


def test_csv_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 256, (500, 7), np.uint8)
    for chunk in (4, 40, 400, 4000):  # the smallest is shorter than a line
        monkeypatch.setattr(decode, "CHUNK_BYTES", chunk)
        assert np.array_equal(decode.parse_csv(csv(array, b"\r\n", False), 7), array)


@quick
@given(st.binary(max_size=120), st.integers(1, 4))
def test_csv_garbage_is_refused_or_is_numbers(data: bytes, columns: int) -> None:
    try:
        array = decode.parse_csv(data, columns)
    except DataError:
        return
    lines = data.partition(b"\n")[2].replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    assert array.tolist() == [[int(field) for field in line.split(b",")] for line in lines]


@pytest.mark.parametrize(
    "body",
    ["1,2\n3", "1,2\n3,4,5\n6", "256,1", "1,-2", "1,2.5", "1,", ",", "1,2\n\n3,4", "1;2", "1, 2", "0001,2", "", "a,b"],
)
def test_csv_that_is_not_bytes_in_columns(body: str) -> None:
    with pytest.raises(DataError):
        decode.parse_csv(b"x,y\n" + body.encode(), 2)


batches = st.integers(1, 3).flatmap(
    lambda n: st.tuples(hnp.arrays(np.uint8, (n, 3, 32, 32)), hnp.arrays(np.uint8, n, elements=st.integers(0, 9)))
)


@quick
@given(batches)
def test_cifar_round_trip(batch: tuple[np.ndarray, np.ndarray]) -> None:
    data = decode.encode_cifar(*batch)
    x, y = decode.parse_cifar(data)
    assert np.array_equal(x, batch[0]) and np.array_equal(y, batch[1]) and x.flags.c_contiguous
    assert data[: 1 + 1024] == bytes([y[0]]) + x[0, 0].tobytes()  # label, then the red plane


@quick
@given(batches, st.integers(-3072, 3072).filter(bool))
def test_cifar_of_another_length_is_refused(batch: tuple[np.ndarray, np.ndarray], by: int) -> None:
    data = decode.encode_cifar(*batch)
    with pytest.raises(DataError):
        decode.parse_cifar(data[:by] if by < 0 else data + b"\0" * by)


def test_cifar_label_out_of_range() -> None:
    with pytest.raises(DataError, match="label 10"):
        decode.parse_cifar(b"\x0a" + b"\0" * 3072)


@quick
@given(st.binary(max_size=100))
def test_label_garbage(data: bytes) -> None:
    with pytest.raises(DataError):
        parse_labels(data, 3)


@pytest.mark.parametrize("data", [b"[1,2]", b"[1,2,10]", b"[1,2,true]", b"[1,2,3.0]", b'{"a":1}', b"[" * 100_000])
def test_labels_that_are_not_three_digits(data: bytes) -> None:
    with pytest.raises(DataError):
        parse_labels(data, 3)


def test_labels() -> None:
    assert parse_labels(b"[1, 9, 0]", 3).tolist() == [1, 9, 0]


def test_git_blob_id_is_gits() -> None:
    assert decode.git_blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def png(mode: str, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


def test_png_sheet() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), np.uint8)
    out = io.BytesIO()
    Image.fromarray(images.transpose(0, 2, 3, 1).reshape(5, 24, 3)).save(out, "PNG")
    assert np.array_equal(decode.parse_png_sheet(out.getvalue(), 5, (4, 6)), images)
    with pytest.raises(DataError):
        decode.parse_png_sheet(out.getvalue()[:-40], 5, (4, 6))


@pytest.mark.parametrize("data", [png("L", (24, 5)), png("RGB", (24, 6)), b"GIF89a", b""])
def test_png_sheet_of_another_kind(data: bytes) -> None:
    with pytest.raises(DataError):
        decode.parse_png_sheet(data, 5, (4, 6))


@quick
@given(st.binary(max_size=300))
def test_png_garbage(data: bytes) -> None:
    with pytest.raises(DataError):
        decode.parse_png_sheet(b"\x89PNG\r\n\x1a\n" + data, 5, (4, 6))


@quick
@given(st.binary(max_size=500), st.integers(0, 500))
def test_gunzip(data: bytes, cut: int) -> None:
    packed = gzip.compress(data)
    assert decode.gunzip(packed, len(data)) == data
    with pytest.raises(DataError):
        decode.gunzip(packed[: min(cut, len(packed) - 1)] + b"\1", len(data))
    if data:
        with pytest.raises(DataError, match="more than the expected"):
            decode.gunzip(packed, len(data) - 1)


def test_gunzip_bomb_is_not_inflated() -> None:
    packed = gzip.compress(bytes(50_000_000))
    with pytest.raises(DataError, match="more than the expected 1000 bytes"):
        decode.gunzip(packed, 1000)


def tar_of(tmp_path: Path, *members: tarfile.TarInfo, data: bytes = b"abc") -> Path:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data))
    return path


def test_tar_reads_only_what_is_wanted(tmp_path: Path) -> None:
    path = tar_of(tmp_path, tarfile.TarInfo("../x"), tarfile.TarInfo("./a/b"), tarfile.TarInfo("c"))
    assert decode.read_tar(path, {"a/b": 3}) == {"a/b": b"abc"}


def test_tar_links_are_not_followed(tmp_path: Path) -> None:
    link = tarfile.TarInfo("wanted")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with pytest.raises(DataError, match="is not a file"):
        decode.read_tar(tar_of(tmp_path, link), {"wanted": 100})


def test_tar_member_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at most 2 bytes"):
        decode.read_tar(tar_of(tmp_path, tarfile.TarInfo("a")), {"a": 2})


def test_tar_with_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_MAX_MEMBERS", 5)
    path = tar_of(tmp_path, *(tarfile.TarInfo(f"m{i}") for i in range(9)))
    with pytest.raises(DataError, match="far larger"):
        decode.read_tar(path, {"a": 2})


@quick
@given(st.binary(max_size=2000))
def test_archive_garbage(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(data)
    for read in (decode.read_tar, decode.read_zip):
        with pytest.raises(DataError):
            read(path, {"a": 10})
    with pytest.raises(DataError):
        decode.read_tar(io.BytesIO(data), {"a": 10})


def test_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b", b"abc" * 1000)
    assert (
        hashlib.sha256(decode.read_zip(path, {"a/b": 3000})["a/b"]).digest() == hashlib.sha256(b"abc" * 1000).digest()
    )
    with pytest.raises(DataError, match="lacks c"):
        decode.read_zip(path, {"c": 1})
    with pytest.raises(DataError, match="more than"):
        decode.read_zip(path, {"a/b": 2999})
    raw = bytearray(path.read_bytes())
    raw[40] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match="cannot be read"):
        decode.read_zip(path, {"a/b": 3000})


def test_one_line() -> None:
    assert decode.one_line("a\n\tb") == "a b"
    assert decode.one_line(ValueError()) == "ValueError"
    assert len(decode.one_line("x" * 500)) == 160
