"""Runs `captioning` commands from standard input, a line each, in one process: starting each would take minutes."""

import os
import shlex
import sys

from flows.commands import cli


def main() -> None:
    errors = os.dup(2)  # a command sends the libraries' own elsewhere
    for line in sys.stdin:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "captioning"
        sys.argv = [program, *arguments]
        sys.stdout.write(f"$ {line}")
        os.dup2(errors, 2)
        sys.stderr = sys.__stderr__
        try:
            cli.main()
        except SystemExit as end:
            sys.stdout.write(f"exit code {end.code or 0}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
