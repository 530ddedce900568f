"""`spotjob local ...`: the whole system on one machine."""

from __future__ import annotations

import typer

app = typer.Typer(help="Run the whole system on this machine, with no AWS account.", no_args_is_help=True)
