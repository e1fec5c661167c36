#!/usr/bin/env python3
"""The command line of `leap`: help for everything, exit status 2 for wrong usage, completion that knows every command.

usage: command_line_test.py LEAP
"""

from __future__ import annotations

import os
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

    def test_completion_names_commands_and_options(self) -> None:
        script = leap("completion", "bash").stdout
        self.assertIn("--verify", script)
        probe = script + 'COMP_WORDS=(leap bench i); COMP_CWORD=2; _leap; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, timeout=30, cwd="/")
        self.assertEqual(done.stdout.split(), ["io"], done.stderr)


if __name__ == "__main__":
    LEAP = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
