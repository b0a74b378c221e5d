"""What the command line says while a recipe is chosen for the user's own images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hotlap.bench.own_images import Choice


def choose_aloud(data: str, changes: Mapping[str, Any], device: str, *, quiet: bool) -> Choice:
    """Look at images, choose and adapt a recipe, and say on stderr what was found and why; see ``own_images.choose``.

    Raises:
        InputError: there is no such data set or device, or no recipe takes images so small.
        DataError: the images cannot be read.
    """
    from hotlap.bench.own_images import choose
    from hotlap.cli.progress import RunProgress

    with RunProgress(0, quiet=quiet) as progress:
        choice = choose(data, changes=changes, device=device, progress=progress)
        for line in choice.lines():
            progress.say(line)
    return choice
