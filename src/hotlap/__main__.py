"""``python -m hotlap`` is the command line."""

from hotlap.cli import main

main()
