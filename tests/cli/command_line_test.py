#!/usr/bin/env python3
"""The command line of `leap`: help for everything, exit status 2 for wrong usage, completion that knows every command.

usage: command_line_test.py LEAP
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import unittest

LEAP = ""
COMMANDS = ("demo", "target", "worker", "format", "block", "discover", "identify", "bench", "completion")


def leap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LEAP, *arguments], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)


class CommandLine(unittest.TestCase):
    def test_version_and_help(self) -> None:
        self.assertRegex(leap("--version").stdout, r"^leap \d+\.\d+\.\d+ ")
        overview = leap("--help").stdout
        for command in COMMANDS:
            self.assertIn(command, overview)
            self.assertEqual(leap(command, "--help").returncode, 0)

    def test_wrong_usage_is_status_2(self) -> None:
        for arguments in ((), ("nonsense",), ("bench", "io"), ("discover",), ("block", "get"), ("block", "get", "--id", "-1"), ("target", "--nqn", "x")):
            done = leap(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertTrue(done.stderr)

    def test_the_hint_fits_whom_nobody_answered_for(self) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{closed.getsockname()[1]}"
        hints = {
            "is the target running": [("identify", f"nvme+tcp://{address}/nqn.2026-11.dev.leap:none")],
            "is the worker running": [("block", "get", "--id", "1", "--worker", address), ("block", "ls", "--worker", address),
                                      ("bench", "worker", "--worker", address)],
            "a worker's HTTP port": [("block", "ls", "--web", address), ("block", "rm", "--id", "1", "--web", address)],
        }
        for hint, commands in hints.items():
            for command in commands:
                done = leap(*command)
                self.assertEqual(done.returncode, 1, command)
                self.assertEqual([line for line in done.stderr.splitlines() if line.startswith("hint:")],
                                 [line for line in done.stderr.splitlines() if hint in line], done.stderr)
                self.assertIn(hint, done.stderr)

    def test_completion_names_commands_and_options(self) -> None:
        script = leap("completion", "bash").stdout
        for shell in ("bash", "zsh"):  # zsh's is bash's behind one line of its own
            parsed = subprocess.run(["bash", "-n"], input=leap("completion", shell).stdout, capture_output=True, text=True, timeout=30)
            self.assertEqual((parsed.returncode, parsed.stderr), (0, ""))
        self.assertIn("--verify", script)
        probe = script + 'COMP_WORDS=(leap bench i); COMP_CWORD=2; _leap; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, timeout=30, cwd="/")
        self.assertEqual(done.stdout.split(), ["io"], done.stderr)


if __name__ == "__main__":
    LEAP = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
