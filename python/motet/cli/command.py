"""The command line: which command, and what its failures look like.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from motet import __version__
from motet.cli import bench, chat, doctor, inspect, run
from motet.errors import InvalidRequestError, ModelNotFoundError, MotetError

OK, FAILURE, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's) and gives its exit code."""
    _replace_closed_streams()
    args = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that can't show it all is no failure
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has left. Python flushes stdout once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except (ModelNotFoundError, FileNotFoundError) as error:
        return _fail(error, NOT_FOUND)
    except InvalidRequestError as error:
        return _fail(error, USAGE)
    except (MotetError, OSError) as error:
        return _fail(error, FAILURE)
    return code


def _replace_closed_streams() -> None:
    """Opens what the caller closed (`>&-`), which is None: libraries would write there, too."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _fail(error: Exception, code: int) -> int:
    print(f"motet: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="motet", description="Run gpt-oss models on this machine.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"motet {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (run, chat, bench, inspect, doctor):
        module.add_parser(commands)
    return parser
