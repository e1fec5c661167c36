#!/usr/bin/env python3
"""Runs every test of the tree, stage by stage, and says in one last line how many cases passed, failed and were skipped.

usage: run_tests.py [--only stage,...] [--jobs N]

A stage that fails shows why and does not stop the others. Each skip is named with its reason. Logs of all commands are
in build/test-logs/. Exit status 0 only when nothing failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import test_results
from test_results import FAILED, PASSED, SKIPPED, Outcome

NO_UNIT_LABELS = "^(structure|system|interop)$"
NINJA_STEP = re.compile(r"^\[\d+/\d+\] ")
COMPILER_COMMAND = re.compile(r"^(: && )?(/\S*/)?(ccache |c\+\+ |/usr/bin/c\+\+ |cmake -E )")
PROGRESS_SECONDS = 30
MAX_EXCERPT_LINES = 80
MAX_SHOWN_FAILURES = 5


class Commands:
    """Runs commands: their output goes to a log, the terminal shows that they are alive."""

    def __init__(self, root: Path, logs: Path) -> None:
        self.root = root
        self.logs = logs
        self.logs.mkdir(parents=True, exist_ok=True)

    def run(self, log_name: str, argv: list[str], environment: dict[str, str] | None = None) -> tuple[bool, Path]:
        """True when `argv` exits with status 0; and the log of its output."""
        log = self.logs / f"{log_name}.log"
        terminal = sys.stdout.isatty()
        shown = time.monotonic()
        with log.open("w") as out:
            process = subprocess.Popen(
                argv, cwd=self.root, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            )
            assert process.stdout is not None
            for line in process.stdout:
                out.write(line)
                if terminal:
                    print(f"\r\033[K  {line.rstrip()[:shutil.get_terminal_size().columns - 3]}", end="", flush=True)
                elif time.monotonic() - shown > PROGRESS_SECONDS:
                    shown = time.monotonic()
                    print(f"  ... {line.rstrip()[:100]}", flush=True)
            if terminal:
                print("\r\033[K", end="", flush=True)
        return process.wait() == 0, log


def excerpt(text: str) -> str:
    """The telling part of a log: what failed build steps printed, else what follows a CMake error, else its end."""
    lines = text.splitlines()
    told: list[str] = []
    telling = False
    for number, line in enumerate(lines):
        if line.startswith("CMake Error"):
            return "\n".join(lines[number : number + MAX_EXCERPT_LINES])
        if line.startswith("FAILED: "):
            telling = True
        elif NINJA_STEP.match(line):
            telling = False
        # The command line of a failed step is long and says little: the log has it.
        if telling and not COMPILER_COMMAND.match(line):
            told.append(line)
    return "\n".join(told or lines[-MAX_EXCERPT_LINES:])


class Tests:
    """The stages. Each returns what it found; a build that several stages need happens once."""

    def __init__(self, root: Path, jobs: int) -> None:
        self.root = root
        self.jobs = jobs
        self.commands = Commands(root, root / "build" / "test-logs")
        self.steps: dict[str, bool] = {}

    def build_dir(self, preset: str) -> Path:
        return self.root / "build" / preset

    def step(self, name: str, argv: list[str], found: list[Outcome]) -> bool:
        """Runs a step that several stages need, once; `found` gets its failure the first time, the reason ever after."""
        if name not in self.steps:
            ok, log = self.commands.run(name, argv)
            self.steps[name] = ok
            if not ok:
                found.append(Outcome(name, FAILED, f"see {log.relative_to(self.root)}", excerpt(log.read_text())))
        elif not self.steps[name]:
            found.append(Outcome("(whole stage)", FAILED, f"needs {name}, which failed"))
        return self.steps[name]

    def configured(self, preset: str, found: list[Outcome]) -> bool:
        return self.step(f"configure-{preset}", ["cmake", "--preset", preset], found)

    def built(self, preset: str, found: list[Outcome]) -> bool:
        command = ["cmake", "--build", "--preset", preset, "--parallel", str(self.jobs), "--", "-k", "0"]
        return self.configured(preset, found) and self.step(f"build-{preset}", command, found)

    def ctest(self, stage: str, preset: str, selection: list[str], prefix: list[str], environment: dict[str, str]) -> list[Outcome]:
        reports = self.build_dir(preset) / "results"
        shutil.rmtree(reports, ignore_errors=True)
        junit = self.commands.logs / f"ctest-{stage}.xml"
        junit.unlink(missing_ok=True)
        _, log = self.commands.run(f"ctest-{stage}", [
            *prefix, "ctest", "--preset", preset, "--parallel", str(self.jobs), "--output-junit", str(junit),
            "--test-output-size-passed", "1000000", "--test-output-size-failed", "1000000", *selection,
        ], environment)
        if not junit.exists():
            return [Outcome("ctest", FAILED, f"did not run, see {log.relative_to(self.root)}", excerpt(log.read_text()))]
        outcomes = test_results.read(junit, reports)
        return outcomes or [Outcome("ctest", FAILED, "found no tests")]

    def one_check(self, name: str, argv: list[str]) -> list[Outcome]:
        ok, log = self.commands.run(name, argv)
        if ok:
            return [Outcome(name, PASSED)]
        return [Outcome(name, FAILED, f"see {log.relative_to(self.root)}", excerpt(log.read_text()))]

    def unit(self) -> list[Outcome]:
        found: list[Outcome] = []
        if self.built("release", found):
            found += self.ctest("unit", "release", ["--label-exclude", NO_UNIT_LABELS], [], {})
        return found

    def structure(self) -> list[Outcome]:
        found: list[Outcome] = []
        if self.configured("release", found):
            found += self.ctest("structure", "release", ["--label-regex", "^structure$"], [], {})
        return found

    def headers(self) -> list[Outcome]:
        found: list[Outcome] = []
        if self.configured("release", found):
            command = ["cmake", "--build", str(self.build_dir("release")), "--target", "leap_header_alone"]
            found += self.one_check("header-alone", [*command, "--parallel", str(self.jobs), "--", "-k", "0"])
        return found

    def format(self) -> list[Outcome]:
        return self.one_check("clang-format", ["scripts/format.sh", "--check"])

    def tidy(self) -> list[Outcome]:
        # Needs the build: clang reads headers that it generates.
        found: list[Outcome] = []
        if self.built("release", found):
            found += self.one_check("clang-tidy", ["scripts/tidy.py", "--jobs", str(self.jobs)])
        return found

    def system(self) -> list[Outcome]:
        return self.labelled("system")

    def interop(self) -> list[Outcome]:
        return self.labelled("interop")

    def labelled(self, label: str) -> list[Outcome]:
        """The tests that run what was built, as a user would."""
        found: list[Outcome] = []
        if self.built("release", found):
            found += self.ctest(label, "release", ["--label-regex", f"^{label}$"], [], {})
        return found

    def asan_ubsan(self) -> list[Outcome]:
        return self.sanitized("asan-ubsan", "address,undefined")

    def tsan(self) -> list[Outcome]:
        return self.sanitized("tsan", "thread")

    def sanitized(self, preset: str, sanitizers: str) -> list[Outcome]:
        """The unit tests in a sanitizer build, as far as this machine lets such programs run."""
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe")
            source = Path(folder, "probe.cc")
            source.write_text("int main() {}\n")
            compiler = [os.environ.get("CXX", "c++"), f"-fsanitize={sanitizers}", str(source), "-o", str(probe)]
            subprocess.run(compiler, check=True, stdin=subprocess.DEVNULL)
            usable, found = usable_sanitizer(probe)
        if usable is None:
            return found
        prefix, environment = usable
        if self.built(preset, found):
            found += self.ctest(preset, preset, [], prefix, environment)
        return found


def usable_sanitizer(probe: Path) -> tuple[tuple[list[str], dict[str, str]] | None, list[Outcome]]:
    """How to run programs built like `probe` here (a command prefix and variables), and what that leaves out.

    Some kernels randomise addresses further than gcc 12's sanitizers can follow; some containers forbid the ptrace that
    the leak detector uses.
    """
    first_error = ""
    for prefix, environment, left_out in (
        ([], {}, None),
        (["setarch", "--addr-no-randomize"], {}, None),
        ([], {"LSAN_OPTIONS": "detect_leaks=0"}, "leak detection"),
    ):
        done = subprocess.run([*prefix, str(probe)], env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode == 0:
            return (prefix, environment), [Outcome(left_out, SKIPPED, first_error)] if left_out else []
        first_error = first_error or next(iter(done.stdout.splitlines()), f"exit status {done.returncode}")
    return None, [Outcome("(whole stage)", SKIPPED, f"sanitized programs do not start here: {first_error}")]


def stages(tests: Tests) -> dict[str, Callable[[], list[Outcome]]]:
    """In the order they run: what fails most often and cheapest comes first."""
    found = {
        "unit": tests.unit,
        "structure": tests.structure,
        "headers": tests.headers,
        "format": tests.format,
        "system": tests.system,
        "interop": tests.interop,
        "asan-ubsan": tests.asan_ubsan,
        "tsan": tests.tsan,
        "tidy": tests.tidy,
    }
    for folder in ("system", "interop"):
        if not (tests.root / "tests" / folder / "CMakeLists.txt").exists():
            del found[folder]
    return found


def cut_middle(lines: list[str]) -> list[str]:
    """The first and the last lines, when there are too many to show."""
    if len(lines) <= MAX_EXCERPT_LINES:
        return lines
    half = MAX_EXCERPT_LINES // 2
    return [*lines[:half], f"... {len(lines) - 2 * half} lines left out, see build/test-logs/ ...", *lines[-half:]]


def show_failures(outcomes: list[Outcome]) -> None:
    failures = [outcome for outcome in outcomes if outcome.state == FAILED]
    for outcome in failures[:MAX_SHOWN_FAILURES]:
        print(f"  FAILED {outcome.name}: {outcome.reason}")
        for line in cut_middle(outcome.output.splitlines()):
            print(f"    | {line}")
    if len(failures) > MAX_SHOWN_FAILURES:
        print(f"  ... and {len(failures) - MAX_SHOWN_FAILURES} more failures, named below")


def show_summary(results: dict[str, list[Outcome]], seconds: dict[str, float]) -> bool:
    """Prints failures and skips by name and the one line that counts; True when nothing failed."""
    everything = [outcome for outcomes in results.values() for outcome in outcomes]
    print()
    for stage, outcomes in results.items():
        print(f"{stage:<11} {test_results.count(outcomes):<38} {seconds[stage]:7.1f} s")
    for state in (SKIPPED, FAILED):
        named = [(stage, o) for stage, outcomes in results.items() for o in outcomes if o.state == state]
        if named:
            print(f"\n{state}:")
        for stage, outcome in named:
            print(f"  {stage}: {outcome.name}: {outcome.reason}")
    print(f"\n{test_results.count(everything)}")
    return not any(outcome.state == FAILED for outcome in everything)


def main() -> int:
    parser = argparse.ArgumentParser(description="run the tests of this tree")
    parser.add_argument("--only", default="", help="comma-separated stages (default: all)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help=argparse.SUPPRESS)
    options = parser.parse_args()
    known = stages(Tests(options.root.resolve(), max(1, options.jobs)))
    chosen = re.split(r"[,\s]+", options.only) if options.only else list(known)
    for stage in chosen:
        if stage not in known:
            parser.error(f"no stage {stage!r}; stages: {', '.join(known)}")
    results: dict[str, list[Outcome]] = {}
    seconds: dict[str, float] = {}
    for stage in chosen:
        print(f"== {stage}", flush=True)
        started = time.monotonic()
        results[stage] = known[stage]()
        seconds[stage] = time.monotonic() - started
        show_failures(results[stage])
        print(f"   {test_results.count(results[stage])} in {seconds[stage]:.1f} s", flush=True)
    return 0 if show_summary(results, seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
