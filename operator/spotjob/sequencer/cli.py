"""The command line `sequencer`. Its variables are those of the first Sequencer, and work as they did."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from enum import StrEnum
from typing import Annotated, TextIO

import typer
from rich.console import Console

from spotjob import __version__
from spotjob.clock import RealClock
from spotjob.sequencer import logs
from spotjob.sequencer.driver import FAILED, NOT_STARTED, Asked, run
from spotjob.sequencer.environment import BadUsage, read_environment
from spotjob.sequencer.oldlog import ALARM

log = logging.getLogger("spotjob.sequencer.cli")  # also when it is run as a script

NO_FILE = 1
"""The first Sequencer ended so, and said so in its text."""
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
SET = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)", re.DOTALL)

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Output(StrEnum):
    """What stdout is for."""

    TEXT = "text"
    JSON = "json"


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


@app.command()
def sequencer(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|s3://BUCKET/KEY[?versionId=VERSION]",
            help="The sequence. Absent: what SEQUENCER_YAML_S3_PATH names.",
            show_default=False,
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the requests as JSON; send none.")] = False,
    first: Annotated[
        str, typer.Option("--from", metavar="STEP", help="Leave out the steps before this one: name, or place from 1.")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="STEP", help="Leave out the steps after this one.")] = "",
    resume: Annotated[str, typer.Option(metavar="RUN", help="Take up this run: what succeeded is not run again.")] = "",
    settings: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="What ${NAME} stands for. Repeatable.")
    ] = [],  # noqa: B006 -- typer reads it and never writes
    state: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Where runs are recorded: a folder, a file with a suffix, or dynamodb:TABLE. Default: "
            "SEQUENCER_STATE, else $XDG_STATE_HOME/sequencer, else ~/.local/state/sequencer.",
        ),
    ] = "",
    namespace: Annotated[str, typer.Option(help="Of SpotJobs. Default: that of the kubeconfig's context.")] = "",
    detach: Annotated[bool, typer.Option("--detach", help="A signal leaves the running step running.")] = False,
    output: Annotated[
        Output, typer.Option(help="json: stdout is the record of the run, and the log goes to stderr.")
    ] = Output.TEXT,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Log lines, also on a terminal, which shows a table otherwise.")
    ] = None,
) -> None:
    """Run the steps of a sequence one after the other: ECS tasks and SpotJobs, each exactly once.

    \b
    sequencer nightly.yml
    sequencer s3://batches/nightly.yml?versionId=3 --set DAY=2026-11-22
    sequencer nightly.yml --dry-run --from load
    sequencer nightly.yml --resume 20261122-080312-5f2c9a
    SEQUENCER_YAML_S3_PATH=s3://batches/nightly.yml AWS_REGION=eu-central-1 sequencer

    The first SIGINT or SIGTERM stops the running step, a second one leaves at once.

    \b
    Exit codes:
      0    all good
      1    a step failed, or no file was given
      2    wrong usage or an invalid file: nothing was started
      130  ended by SIGINT
      143  ended by SIGTERM

    \b
    Variables:
      SEQUENCER_YAML_S3_PATH           the file when none is given
      AWS_REGION                       of S3 and ECS
      SEQUENCER_SLEEP_BETWEEN_CHECKS   seconds between two looks at a running step (5)
      SEQUENCER_LOG_DEBUG              set to anything: more log lines
      SEQUENCER_STATE                  as --state
      SEQUENCER_STATE_CREATE_TABLE     true: create the table of dynamodb:TABLE
      SEQUENCER_TASK_EVENTS_QUEUE      SQS queue with ends of tasks that ECS has forgotten
    """
    document = dry_run or output is Output.JSON  # on stdout
    terminal = None if document or log_format is not None or not sys.stdout.isatty() else Console()
    _set_up_log(sys.stderr if document else sys.stdout, log_format, terminal)
    log.info("sequencer version %s", __version__)
    environment, values = read_environment(os.environ), _settings(settings)
    asked = Asked(
        source=source or environment.yaml_path,
        state=state or environment.state,
        environment=environment,
        names={**os.environ, **values},
        given=frozenset(values),
        first=first,
        until=until,
        resume=_run_id(resume),
        namespace=namespace,
        dry_run=dry_run,
        detach=detach,
        output=output.value,
        terminal=terminal,
    )
    if not asked.source:
        log.error("%s: YAML file not provided... exiting with error code %d", ALARM, NO_FILE)
        raise typer.Exit(NO_FILE)
    raise typer.Exit(asyncio.run(run(asked, RealClock())))


def _run_id(text: str) -> str:
    """It becomes the name of a file. Raises BadUsage."""
    if text and RUN_ID.fullmatch(text) is None:
        raise BadUsage(f"--resume {text!r}: a run is named as the log says, such as 20261122-080312-5f2c9a")
    return text


def _settings(settings: list[str]) -> dict[str, str]:
    """Raises BadUsage."""
    found = [(text, SET.fullmatch(text)) for text in settings]
    for text, match in found:
        if match is None:
            raise BadUsage(f"--set {text.partition('=')[0]!r}: write NAME=VALUE")
    return {match["name"]: match["value"] for _, match in found if match is not None}


# ---- the log --------------------------------------------------------------------------------------------------------


def _set_up_log(stream: TextIO, log_format: LogFormat | None, terminal: Console | None) -> None:
    logs.set_up((log_format or LogFormat.TEXT).value, "SEQUENCER_LOG_DEBUG" in os.environ, stream)
    if terminal is not None:
        logs.above_the_table(terminal)


def _refused(why: str) -> int:
    log.error("%s: %s", ALARM, why)
    return NOT_STARTED


def main() -> None:
    """The entry point. Wrong usage is told in the log, too, since people's alarms look there."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        logs.set_up("text", False, sys.stdout)
        code = _refused(error.format_message())
    except BadUsage as error:
        code = _refused(str(error))
    except KeyboardInterrupt:  # before the run began, which hears signals itself
        log.error("%s: stopped by SIGINT", ALARM)
        code = 128 + signal.SIGINT
    except Exception as error:
        log.exception("%s: %s", ALARM, error)
        code = FAILED
    sys.exit(code)


if __name__ == "__main__":
    main()
