"""Takes the user's settings out of the environment, once and for all, when it is imported.

Child processes inherit what is left.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# Who forbids hotlap the network forbids it the tests' data sets too; nothing else is to know of it.
OFFLINE = os.environ.pop("HOTLAP_OFFLINE", "")
REQUIRE_ALL = os.environ.pop("HOTLAP_REQUIRE_ALL", "0") not in ("", "0")

# What changes what hotlap does, and what makes programs write colours or wide lines where there is no terminal.
for name in (
    *("HOTLAP_ISA", "HOTLAP_CXXFLAGS", "HOTLAP_EAGER_IMPORTS", "COLUMNS", "LINES", "TERMINAL_WIDTH", "NO_COLOR"),
    *("FORCE_COLOR", "PY_COLORS", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS"),
    *("WANDB_MODE", "WANDB_PROJECT", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"),
):
    os.environ.pop(name, None)

# Other programs' settings and caches lie in a folder of this session, which all of its processes share.
MADE_HERE = "PYTEST_XDIST_WORKER" not in os.environ
if MADE_HERE:
    FOLDER = Path(tempfile.mkdtemp(prefix="hotlap-tests-"))
    for name in (
        *("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "HF_HOME"),
        *("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR"),
    ):
        (FOLDER / name).mkdir()
        os.environ[name] = str(FOLDER / name)


def remove_folder() -> None:
    """Remove the folder at the end of the session."""
    if MADE_HERE:
        shutil.rmtree(FOLDER, ignore_errors=True)
