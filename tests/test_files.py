from __future__ import annotations

from pathlib import Path

import pytest

from hotlap._files import replace_file, replacing
from hotlap.errors import InputError


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert replace_file(path, "ä\n") == path
    assert path.read_bytes() == "ä\n".encode()
    replace_file(path, b"\x00\r\n")
    assert path.read_bytes() == b"\x00\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_unicode_is_escaped(tmp_path: Path) -> None:
    assert replace_file(tmp_path / "a", "ä \udcff").read_bytes() == "ä \\udcff".encode()


def test_an_error_on_the_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"cannot write .*a: No space left on device") as caught:
        replace_file(path, "new")
    assert caught.value.fix == "free some space or choose another place"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory") as caught:
        replace_file(tmp_path / "none" / "a", "x", fix="choose one that is there")
    assert caught.value.fix == "choose one that is there"
