"""What verbs write survives any encoding of stdout, and names that are not UTF-8."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap import cli
from hotlap.cli.output import as_json, escape_unwritable, print_json, stdout

TEXT = st.text(st.sampled_from('aä≥×😀"\\\n\udc80\udcff'))


@given(st.dictionaries(TEXT, TEXT), st.sampled_from(["utf-8", "cp1252", "latin-1", "ascii"]))
def test_json_is_the_same_document_in_every_encoding(document: dict[str, str], encoding: str) -> None:
    assert json.loads(as_json(document, encoding).encode(encoding).decode(encoding)) == document


def test_json_keeps_characters_that_can_be_written() -> None:
    assert "größe ≥" in as_json({"a": "größe ≥"}, "utf-8")
    assert "größe" in as_json({"a": "größe"}, "cp1252")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_nothing_that_is_printed_ends_a_command(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert cli.run(["list"]) == 0
    stdout().print("≥ 99 % \udcff", markup=False)
    print_json(["≥", "\udcff"])
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert ("≥ 99 %" if encoding == "utf-8" else "\\u2265 99 %") in text
    assert "% \\udcff" in text
    assert json.loads(text[text.rindex("[") :]) == ["≥", "\udcff"]


def test_streams_that_cannot_be_set_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    escape_unwritable()
    print_json({"a": "≥"})
    assert sys.stdout.getvalue() == '{\n  "a": "≥"\n}\n'  # type: ignore[attr-defined]
