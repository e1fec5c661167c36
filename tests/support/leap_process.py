"""Processes of a test: a `leap` that serves until it is stopped, and ports for it."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
STOP_SECONDS = 30


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent() -> None:
    """For Popen's preexec_fn: a test that is killed leaves no process behind."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """A `leap` that prints a line beginning with "ready" and then serves until it is stopped."""

    def __init__(self, log: Path, *argv: str) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                            preexec_fn=die_with_parent)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line.startswith("ready"):
            self.stop(signal.SIGKILL)
            raise AssertionError(f"no ready line but {line!r}; log: {log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        status = self.process.wait(timeout=STOP_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status
