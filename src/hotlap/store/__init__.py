"""The store of runs: SQLite, append-only, with a schema version. No torch.

``default_path`` says where it lies; the environment variable ``HOTLAP_STORE`` moves it.
"""

from hotlap.store.sqlite import Store, default_path

__all__ = ["Store", "default_path"]
