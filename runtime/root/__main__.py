"""`python -m bigpe` is the `bigpe` command."""

from bigpe.runtime.cli import main

main()
