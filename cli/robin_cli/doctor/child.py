"""Checks that load libraries and open drivers, in a process of their own: one that dies takes no doctor with it.

``python -m robin_cli.doctor.child MODULE FUNCTION ARGUMENTS...`` prints each check of that function as a line of JSON.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module

from robin_cli.doctor.check import MachineCheck

TIMEOUT_S = 60.0
_MARK = "check "  # what libraries print by themselves has none


def checks_in_child(function: str, *arguments: str) -> tuple[list[MachineCheck], str]:
    """The checks that ``function`` ("module:name") gives, and how the process ended where it did not come to the end of
    them: a signal, a traceback's last line, a wait that was too long; else ""."""
    command = [sys.executable, "-m", "robin_cli.doctor.child", *function.split(":"), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        output, ended = done.stdout, how_it_ended(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as exc:
        output, ended = exc.stdout or b"", f"no answer within {TIMEOUT_S:g} s"
    except OSError as exc:
        output, ended = b"", f"no process could be started: {exc.strerror}"
    lines = output.decode(errors="replace").splitlines()
    return [MachineCheck(**json.loads(line[len(_MARK) :])) for line in lines if line.startswith(_MARK)], ended


def how_it_ended(status: int, said: bytes) -> str:
    """In words, for an exit status as ``subprocess`` gives it and what was said on standard error; "" for 0."""
    if status == 0:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    if status > 0 and lines:
        return lines[-1]
    if status > 0:
        return f"loading it ended the process with status {status}"
    known = {number.value for number in signal.Signals}
    name = signal.Signals(-status).name if -status in known else f"signal {-status}"
    why = " (an instruction that this processor lacks, such as AVX)" if -status == signal.SIGILL else ""
    return f"loading it ended the process by {name}{why}"


def main() -> None:
    module, function, *arguments = sys.argv[1:]
    for check in getattr(import_module(module), function)(*arguments):
        print(f"{_MARK}{json.dumps(asdict(check))}", flush=True)


if __name__ == "__main__":
    main()
