#!/usr/bin/env python3
"""scripts/run_tests.py counts what ctest and GoogleTest really write, and fails when anything in them failed."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import run_tests  # noqa: E402
import test_results  # noqa: E402
from test_results import FAILED, PASSED, SKIPPED  # noqa: E402

PRESETS = """{
  "version": 6,
  "configurePresets": [{"name": "release", "generator": "Ninja", "binaryDir": "${sourceDir}/build/release"}],
  "buildPresets": [{"name": "release", "configurePreset": "release"}],
  "testPresets": [{"name": "release", "configurePreset": "release"}]
}"""

CASES = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="%d" name="AllTests"><testsuite name="Ring">
  <testcase name="Works" status="run" result="completed" />
  <testcase name="NeedsRoot" status="run" result="skipped"><skipped message="ring_test.cc:7&#x0A;not root" /></testcase>
  <testcase name="DISABLED_Old" status="notrun" result="suppressed" />
  %s
</testsuite></testsuites>"""
FAILING_CASE = """<testcase name="Breaks" status="run" result="completed">
  <failure message="ring_test.cc:9&#x0A;Expected: 1&#x0A;Actual: 2" type=""></failure></testcase>"""


class FakeTree(unittest.TestCase):
    """A tree without a compiler whose tests are shell commands, under the real cmake and ctest."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "CMakePresets.json").write_text(PRESETS)
        self.cmake = "cmake_minimum_required(VERSION 3.25)\nproject(fake LANGUAGES NONE)\nenable_testing()\n"

    def add_test(self, name: str, script: str, report: str | None = None) -> None:
        if report is not None:
            (self.root / f"{name}.xml").write_text(report)
            script = f"mkdir -p results && cp {self.root}/{name}.xml results/; {script}"
        self.cmake += f'add_test(NAME {name} COMMAND sh -c [=[{script}]=])\n'
        self.cmake += f"set_tests_properties({name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 10)\n"

    def run_unit_stage(self) -> tuple[int, str]:
        (self.root / "CMakeLists.txt").write_text(self.cmake)
        done = subprocess.run(
            [sys.executable, "-B", str(SCRIPTS / "run_tests.py"), "--root", str(self.root), "--only", "unit", "--jobs", "1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        return done.returncode, done.stdout

    def assert_run(self, status: int, last_line: str, *lines: str) -> None:
        actual, output = self.run_unit_stage()
        self.assertEqual(output.splitlines()[-1], last_line, output)
        self.assertEqual(actual, status, output)
        for line in lines:
            self.assertIn(line, output)

    def test_everything_passes(self) -> None:
        self.add_test("script", "exit 0")
        self.add_test("ring", "exit 0", CASES % (0, ""))
        self.assert_run(0, "2 passed, 0 failed, 2 skipped", "unit: Ring.NeedsRoot: not root", "unit: Ring.DISABLED_Old: disabled")

    def test_a_failed_case_is_named_and_fails_the_run(self) -> None:
        self.add_test("ring", "echo what the program said; exit 1", CASES % (1, FAILING_CASE))
        self.assert_run(1, "1 passed, 1 failed, 2 skipped", "unit: Ring.Breaks: Expected: 1 Actual: 2", "| what the program said")

    def test_a_crash_before_the_report_fails(self) -> None:
        self.add_test("ring", "kill -SEGV $$")
        self.assert_run(1, "0 passed, 1 failed, 0 skipped", "unit: ring: ")

    def test_a_failure_after_the_last_case_fails(self) -> None:
        self.add_test("ring", "echo leaked 8 bytes; exit 1", CASES % (0, ""))
        self.assert_run(1, "1 passed, 1 failed, 2 skipped", "although no case failed", "| leaked 8 bytes")

    def test_a_sanitizer_report_fails_beside_a_failed_case_and_is_named(self) -> None:
        race = "echo 'WARNING: ThreadSanitizer: data race (pid=12)'; exit 66"
        self.add_test("ring", race, CASES % (1, FAILING_CASE))
        self.assert_run(1, "1 passed, 2 failed, 2 skipped", "unit: ring: ThreadSanitizer: data race")

    def test_the_output_of_passed_cases_is_left_out(self) -> None:
        shown = test_results.without_passed_cases(
            "[ RUN      ] A.Passes\nnoise\n[       OK ] A.Passes (0 ms)\n"
            "[ RUN      ] A.Races\nWARNING: ThreadSanitizer: data race (pid=1)\n[       OK ] A.Races (0 ms)\n"
            "[ RUN      ] A.Fails\nwhy\n[  FAILED  ] A.Fails (0 ms)\n[ RUN      ] A.Crashes\nlast words\n")
        for line in ("WARNING: ThreadSanitizer", "A.Fails", "why", "A.Crashes", "last words"):
            self.assertIn(line, shown)
        for line in ("A.Passes", "noise"):
            self.assertNotIn(line, shown)

    def test_a_report_of_an_earlier_run_does_not_count(self) -> None:
        self.add_test("ring", "exit 0", CASES % (0, ""))
        self.assert_run(0, "1 passed, 0 failed, 2 skipped")
        (self.root / "ring.xml").unlink()
        self.assert_run(0, "1 passed, 0 failed, 0 skipped")

    def test_a_program_without_cases_fails(self) -> None:
        self.add_test("empty", "exit 0", '<testsuites tests="0" name="AllTests"></testsuites>')
        self.assert_run(1, "0 passed, 1 failed, 0 skipped", "ran no test case")

    def test_a_script_names_what_it_skips(self) -> None:
        self.add_test("some", "echo 'SKIPPED vfio: no device'; exit 0")
        self.add_test("all", "echo 'SKIPPED kvm: no /dev/kvm: missing'; exit 77")
        self.add_test("mute", "exit 77")
        self.assert_run(0, "1 passed, 0 failed, 3 skipped", "some: vfio: no device", "all: kvm: no /dev/kvm: missing",
                        "mute: no reason given")

    def test_a_missing_program_fails(self) -> None:
        self.cmake += "add_test(NAME gone COMMAND /nonexistent/program)\n"
        self.assert_run(1, "0 passed, 1 failed, 0 skipped", "unit: gone")

    def test_no_tests_at_all_fails(self) -> None:
        self.assert_run(1, "0 passed, 1 failed, 0 skipped")

    def test_a_failed_build_fails_and_shows_why(self) -> None:
        self.add_test("script", "exit 0")
        self.cmake += "add_custom_target(broken ALL COMMAND sh -c [=[echo the reason; exit 3]=])\n"
        self.assert_run(1, "0 passed, 1 failed, 0 skipped", "build-release", "| the reason")

    def test_a_failed_configuration_fails_and_shows_why(self) -> None:
        self.cmake += "message(FATAL_ERROR \"librocksdb is missing\")\n"
        self.assert_run(1, "0 passed, 1 failed, 0 skipped", "librocksdb is missing")


class Excerpts(unittest.TestCase):
    """What is shown of a long log."""

    def test_of_a_build_only_what_failed_steps_said(self) -> None:
        log = ("[1/3] Building a.o\n[2/3] Building b.o\nFAILED: b.o \n/usr/bin/ccache /usr/bin/c++ -O3 -c b.cc\n"
               "b.cc:1: error: no such thing\n[3/3] Building c.o\nc.cc:1: note\nninja: build stopped\n")
        self.assertEqual(run_tests.excerpt(log), "FAILED: b.o \nb.cc:1: error: no such thing")

    def test_of_another_log_its_end(self) -> None:
        log = "\n".join(str(line) for line in range(1000))
        self.assertTrue(run_tests.excerpt(log).endswith("998\n999"))
        self.assertEqual(len(run_tests.excerpt(log).splitlines()), run_tests.MAX_EXCERPT_LINES)

    def test_too_many_lines_lose_their_middle(self) -> None:
        lines = run_tests.cut_middle([str(line) for line in range(1000)])
        self.assertEqual((lines[0], lines[-1], len(lines)), ("0", "999", run_tests.MAX_EXCERPT_LINES + 1))


class Sanitizers(unittest.TestCase):
    """A machine on which sanitized programs cannot run says so instead of failing or staying silent."""

    def probe(self, script: str) -> tuple[object, list[test_results.Outcome]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
            return run_tests.usable_sanitizer(path)

    def test_usable_as_it_is(self) -> None:
        self.assertEqual(self.probe("exit 0"), (([], {}), []))

    def test_usable_without_leak_detection(self) -> None:
        usable, outcomes = self.probe('[ "$LSAN_OPTIONS" = detect_leaks=0 ] || { echo ptrace is forbidden; exit 1; }')
        self.assertEqual(usable, ([], {"LSAN_OPTIONS": "detect_leaks=0"}))
        self.assertEqual([(o.state, o.reason) for o in outcomes], [(SKIPPED, "ptrace is forbidden")])

    def test_not_usable_at_all(self) -> None:
        usable, outcomes = self.probe("echo unexpected memory mapping; exit 66")
        self.assertIsNone(usable)
        self.assertEqual([o.state for o in outcomes], [SKIPPED])
        self.assertIn("unexpected memory mapping", outcomes[0].reason)


class Counting(unittest.TestCase):
    def test_counts_by_state(self) -> None:
        outcomes = [test_results.Outcome("a", state) for state in (PASSED, PASSED, FAILED, SKIPPED)]
        self.assertEqual(test_results.count(outcomes), "2 passed, 1 failed, 1 skipped")


if __name__ == "__main__":
    unittest.main()
