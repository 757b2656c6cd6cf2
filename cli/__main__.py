"""Makes `python -m cli` the same as `tocsin`."""

from cli.main import main

main()
