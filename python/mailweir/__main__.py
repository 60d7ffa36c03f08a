"""`python -m mailweir`: the same as the installed `mailweir` command."""

from mailweir.cli import main

main()
