"""Draw what commands really print as a picture of a terminal, and keep the runs that they made beside it.

python docs/_terminal.py docs/terminal.svg 'hotlap train mnist --seeds 3' 'hotlap compare …'
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from hotlap.store import Store

WIDTH = 100
_REMOTE_FONTS = re.compile(r"@font-face\s*\{[^}]*\}\s*")


def main(target: Path, commands: list[str]) -> None:
    console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    before = known_runs()
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    for command in commands:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, env=environment, check=False)
        if done.returncode not in (0, 1):  # 1: a mean that is not shown to reach the target
            sys.exit(done.stderr)
        console.print(Text(f"$ {command}", style="bold green"))
        console.print(Text.from_ansi(done.stdout.replace(str(Path.home()), "~").rstrip()))
        console.print()
    # The picture is to need nothing from elsewhere: whoever looks at it has a monospaced font.
    picture = _REMOTE_FONTS.sub("", console.export_svg(title="hotlap", unique_id="hotlap"))
    target.write_text(picture.replace("Fira Code, monospace", "monospace"), encoding="utf-8")
    made = [text for name, text in known_runs().items() if name not in before]
    target.with_suffix(".jsonl").write_text("\n".join(made) + "\n", encoding="utf-8")


def known_runs() -> dict[str, str]:
    with Store() as store:
        return store.documents()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
