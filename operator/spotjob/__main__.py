"""`python -m spotjob` is the same as the command `spotjob`."""

from spotjob.cli import main

main()
