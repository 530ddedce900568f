"""The command line: `spotjob operator | api | crds | local ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spotjob.local.cli import app as local_app

app = typer.Typer(
    name="spotjob",
    help="Runs each SpotJob as one container on one EC2 Spot Instance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(local_app, name="local")


@app.command()
def operator() -> None:
    """Run the operator. Settings come from SPOTJOB_* variables.

    Example: SPOTJOB_CLUSTER_NAME=prod spotjob operator
    """
    from spotjob.controller.handlers import run
    from spotjob.settings import Settings

    run(Settings())


@app.command()
def api() -> None:
    """Run the REST API. Settings come from SPOTJOB_* variables.

    Example: SPOTJOB_API_PORT=8080 spotjob api
    """
    from spotjob.api.app import run
    from spotjob.settings import Settings

    run(Settings())


@app.command()
def crds(directory: Annotated[Path, typer.Argument(help="Folder to write one YAML file per kind into.")]) -> None:
    """Write the CustomResourceDefinitions.

    Example: spotjob crds crds
    """
    from spotjob.core.crd import documents

    directory.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (directory / name).write_text(text)


def main() -> None:
    app()
