#!/usr/bin/env python3
"""scripts/tidy.py reports findings until they are gone, and skips a file only while nothing it includes changed."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import tidy  # noqa: E402

# Stands in for clang-tidy: finds the word "bug" in the source and in base.h, and remembers each call.
FAKE = """#!/bin/sh
[ "$1" = --version ] && { cat "$(dirname "$0")/version"; exit 0; }
echo "$2" >> "$(dirname "$0")/calls"
! grep -n bug "$2" "$(dirname "$2")/base.h"
"""


class Tidy(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()
        self.tool = self.root / "fake-tidy"
        self.write("fake-tidy", FAKE)
        self.tool.chmod(0o755)
        self.write("version", "16\n")
        self.write(".clang-tidy", "Checks: '*'\n")
        self.write("src/base/base.h", "#pragma once\n")
        self.write("src/base/middle.h", '#include "base/base.h"\n')
        self.write("src/base/one.cc", '#include "base/middle.h"\n#include <vector>\n')
        self.write("src/base/two.cc", "\n")
        self.write("tests/base/three.cc", "\n")
        self.write_database("-DA")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_database(self, flags: str) -> None:
        entries = [
            {"directory": str(self.root / "build"), "file": str(self.root / name),
             "command": f"/usr/bin/c++ -I{self.root}/src {flags} -O3 -Werror -fcoroutines -std=c++20 -o x.o -c {self.root / name}"}
            for name in ("src/base/one.cc", "src/base/two.cc", "tests/base/three.cc")
        ]
        self.write("build/compile_commands.json", json.dumps(entries))

    def run_tidy(self) -> tuple[list[str], list[str]]:
        """The files clang-tidy was run on, and those with findings."""
        calls = self.root / "calls"
        calls.unlink(missing_ok=True)
        units = tidy.load_units(self.root / "build/compile_commands.json", self.root)
        bad = tidy.check(units, str(self.tool), self.root, self.root / "build/cache", jobs=2)
        ran = calls.read_text().split() if calls.exists() else []
        return sorted(Path(path).name for path in ran), [unit.source.name for unit in bad]

    def test_checks_the_sources_of_src_once(self) -> None:
        self.assertEqual(self.run_tidy(), (["one.cc", "two.cc"], []))
        self.assertEqual(self.run_tidy(), ([], []))

    def test_a_finding_is_reported_until_it_is_gone(self) -> None:
        self.write("src/base/two.cc", "int bug;\n")
        self.assertEqual(self.run_tidy(), (["one.cc", "two.cc"], ["two.cc"]))
        self.assertEqual(self.run_tidy(), (["two.cc"], ["two.cc"]))
        self.write("src/base/two.cc", "int fine;\n")
        self.assertEqual(self.run_tidy(), (["two.cc"], []))

    def test_a_changed_header_checks_those_who_include_it_again(self) -> None:
        self.run_tidy()
        self.write("src/base/base.h", "#pragma once\nint changed;\n")
        self.assertEqual(self.run_tidy(), (["one.cc"], []))

    def test_other_flags_settings_or_version_check_everything_again(self) -> None:
        for change in (lambda: self.write_database("-DB"), lambda: self.write(".clang-tidy", "Checks: ''\n"),
                       lambda: self.write("version", "17\n")):
            self.run_tidy()
            change()
            self.assertEqual(self.run_tidy(), (["one.cc", "two.cc"], []))

    def test_clang_sees_no_flag_of_gcc(self) -> None:
        unit = tidy.load_units(self.root / "build/compile_commands.json", self.root)[0]
        self.assertEqual(unit.arguments, (f"-I{self.root}/src", "-DA", "-std=c++20"))

    def test_the_real_clang_tidy_fails_on_a_finding_under_our_settings(self) -> None:
        settings = Path(__file__).resolve().parents[2] / ".clang-tidy"
        self.write(".clang-tidy", settings.read_text())
        self.write("src/base/two.cc", "class Ring {\n public:\n  int size() const { return count; }\n\n private:\n  int count = 0;\n};\n")
        unit = tidy.load_units(self.root / "build/compile_commands.json", self.root)[1]
        try:
            clean, output = tidy.run_tidy("clang-tidy-16", unit)
        except FileNotFoundError:
            print("SKIPPED the real clang-tidy: clang-tidy-16 is not installed")
            return
        self.assertFalse(clean)
        self.assertIn("private member 'count'", output)
        self.write("src/base/two.cc", "class Ring {\n public:\n  int size() const { return count_; }\n\n private:\n  int count_ = 0;\n};\n")
        self.assertEqual(tidy.run_tidy("clang-tidy-16", unit), (True, ""))


if __name__ == "__main__":
    unittest.main()
