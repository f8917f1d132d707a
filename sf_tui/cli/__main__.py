"""`python -m sf_tui.cli`: the same as `sf`."""

from sf_tui.cli.entry import main

main()
