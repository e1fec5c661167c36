#!/usr/bin/env python3
"""The structure checkers find what is planted for them, at the right line, and nothing in a clean tree."""

import tempfile
import unittest
from pathlib import Path

import dependency_direction
import rooms
import style

HEADER = "// Promises something.\n#pragma once\n"


class Planted(unittest.TestCase):
    """A small clean tree of two rooms; each test plants one violation."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("CMakeLists.txt", f"set(LEAP_ROOMS {' '.join(rooms.ORDER)})\n")
        for room, text in (("base", ""), ("host", '#include "base/base.h"\n')):
            self.write(f"src/{room}/{room}.h", HEADER + text)
            self.write(f"src/{room}/README.md", f"# {room}\n")
            self.write(f"src/{room}/CMakeLists.txt", f"leap_room({room} PUBLIC leap_base)\n")
            self.write(f"tests/{room}/CMakeLists.txt", f"leap_test({room}_tests LIBS leap_cli)\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def findings(self) -> list[str]:
        found = dependency_direction.check(self.root)[0] + style.check(self.root)[0]
        return [finding.format(self.root) for finding in found]

    def assert_finds(self, place: str, *words: str) -> None:
        findings = self.findings()
        self.assertEqual(len(findings), 1, findings)
        self.assertTrue(findings[0].startswith(place + ": "), findings)
        for word in words:
            self.assertIn(word, findings[0])

    def test_a_clean_tree_has_no_findings(self) -> None:
        self.assertEqual(self.findings(), [])

    def test_include_of_a_higher_room(self) -> None:
        self.write("src/base/base.cc", '#include "base/base.h"\n#include "host/host.h"\n')
        self.assert_finds("src/base/base.cc:2", "host/host.h", "higher room")

    def test_include_of_a_higher_room_from_a_subfolder_with_odd_spacing(self) -> None:
        self.write("src/host/tcp/tcp.cc", '\n  #  include  "cli/cli.h"\n')
        self.assert_finds("src/host/tcp/tcp.cc:2", "cli/cli.h", "higher room")

    def test_include_that_does_not_name_its_room(self) -> None:
        self.write("src/host/host.cc", '#include "host.h"\n')
        self.assert_finds("src/host/host.cc:1", "does not start with a room")

    def test_include_through_a_parent_folder(self) -> None:
        self.write("src/host/host.cc", '#include "../base/base.h"\n')
        self.assert_finds("src/host/host.cc:1", "does not start with a room")

    def test_generated_messages_may_be_included(self) -> None:
        self.write("src/host/host.cc", '#include "common.pb.h"\n')
        self.assertEqual(self.findings(), [])

    def test_link_to_a_higher_room(self) -> None:
        self.write("src/base/CMakeLists.txt", "leap_room(base\n  # leap_cli is no link here\n  PRIVATE leap_options leap_host_tcp)\n")
        self.assert_finds("src/base/CMakeLists.txt:3", "leap_host", "higher room")

    def test_room_without_a_place_in_the_order(self) -> None:
        self.write("src/attic/attic.cc", "\n")
        self.assertTrue(any("no known room" in finding for finding in self.findings()))

    def test_file_that_is_too_long(self) -> None:
        self.write("src/base/base.cc", "\n" * style.MAX_LINES)
        self.assertEqual(self.findings(), [])
        self.write("src/base/base.cc", "\n" * (style.MAX_LINES + 1))
        self.assert_finds(f"src/base/base.cc:{style.MAX_LINES + 1}", "split it")

    def test_unfinished_work_in_sources_tests_and_scripts(self) -> None:
        for name in ("src/base/base.cc", "tests/base/base_test.cc", "scripts/x.py", "cmake/x.cmake", "src/base/CMakeLists.txt"):
            before = (self.root / name).read_text() if (self.root / name).exists() else None
            self.write(name, "\n# a " + "FIX" + "ME: later\n")
            self.assert_finds(f"{name}:2", "FIX" + "ME")
            if before is None:
                (self.root / name).unlink()
            else:
                self.write(name, before)

    def test_words_that_only_contain_a_marker_are_fine(self) -> None:
        self.write("src/base/base.cc", "// the " + "HA" + "CKNEY carriage\n")
        self.assertEqual(self.findings(), [])

    def test_header_without_a_contract(self) -> None:
        self.write("src/base/base.h", "#pragma once\nint f();\n")
        self.assert_finds("src/base/base.h:1", "starts with a comment")

    def test_header_without_a_guard(self) -> None:
        self.write("src/base/base.h", "// Promises.\nint f();\n")
        self.assert_finds("src/base/base.h:1", "#pragma once")

    def test_coroutine_lambda_that_captures(self) -> None:
        for capture in ("[&]", "[this]", "[x = std::move(x), &y]"):
            self.write("tests/host/x_test.cc", f"\nspawn({capture}(int a, F (*g)(int)) mutable -> Task<void> {{ co_return; }}(1));\n")
            self.assert_finds("tests/host/x_test.cc:2", "captures")

    def test_coroutine_lambda_that_captures_inside_another_lambda(self) -> None:
        self.write("tests/host/x_test.cc", "run([](int a) -> Task<void> {\n  return [a](int b) -> Task<void> { co_await b; }(1);\n});\n")
        self.assert_finds("tests/host/x_test.cc:2", "captures")

    def test_lambdas_that_only_capture_or_only_are_coroutines_are_fine(self) -> None:
        for text in (
            "auto a = [](int& x) -> Task<void> { if (x) { co_return; } };\n",
            "auto b = [&](int x) -> int { return table[x](x); };\nTask<void> f() { co_return; }\n",
            "poller->run([&x](P& p) -> Task<void> { co_await p.yield(); });\nthread.run(\n    [&x](P& p) -> Task<void> { co_return; });\n",
            "spawn([&](P& p) -> Task<void> {\n  return [](P& q) -> Task<void> { co_await q.yield(); }(p);\n});\n",
        ):
            self.write("src/base/base.cc", text)
            self.assertEqual(self.findings(), [])

    def test_room_without_a_readme(self) -> None:
        (self.root / "src/host/README.md").unlink()
        self.assert_finds("src/host/README.md:1", "no README.md")

    def test_readme_that_is_too_long(self) -> None:
        self.write("src/host/README.md", "line\n" * (style.MAX_README_LINES + 1))
        self.assert_finds(f"src/host/README.md:{style.MAX_README_LINES + 1}", "limit")

    def test_room_without_tests(self) -> None:
        (self.root / "tests/host/CMakeLists.txt").unlink()
        self.assert_finds("tests/host:1", "no tests")

    def test_order_of_rooms_that_differs_in_cmake(self) -> None:
        self.write("CMakeLists.txt", "project(x)\nset(LEAP_ROOMS host base)\n")
        self.assert_finds("CMakeLists.txt:2", "rooms.ORDER")


if __name__ == "__main__":
    unittest.main()
