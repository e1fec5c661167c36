"""What a run of ctest proved, case by case.

ctest knows one test per executable; GoogleTest executables write their cases to <build>/results/<test>.xml (see
leap_test() in cmake/LeapRoom.cmake). read() joins the two, so that a case that was skipped, or a crash after the last
case, is named and counted.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SKIP_LINE = re.compile(r"^SKIPPED (?P<case>[^:\n]+): *(?P<reason>.+)$", re.MULTILINE)
SANITIZER = re.compile(r"^(?:==\d+==ERROR|WARNING): (\w+Sanitizer: .*?)(?: \(pid=\d+\))?$", re.MULTILINE)
LOCATION = re.compile(r"^\S+:\d+\n")


class Outcome(NamedTuple):
    """One test case: what happened and, unless it passed, why."""

    name: str
    state: str
    reason: str = ""
    output: str = ""


def one_line(text: str) -> str:
    return " ".join(LOCATION.sub("", text).split())


def without_passed_cases(output: str) -> str:
    """What a GoogleTest executable printed, without the cases that passed and had nothing to report."""
    kept: list[str] = []
    case: list[str] = []
    for line in output.splitlines():
        if line.startswith("[ RUN      ]"):
            kept += case
            case = [line]
        elif line.startswith(("[       OK ]", "[  SKIPPED ]")) and case:
            if SANITIZER.search("\n".join(case)):
                kept += [*case, line]
            case = []
        elif line.startswith(("[----------]", "[==========]")) or not line.strip():
            continue
        else:
            (case if case else kept).append(line)
    return "\n".join(kept + case)


def read_gtest(path: Path) -> list[Outcome]:
    """The cases in a GoogleTest XML report."""
    outcomes = []
    for suite in ET.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            name = f"{suite.get('name')}.{case.get('name')}"
            failures = case.findall("failure")
            skips = case.findall("skipped")
            if failures:
                outcomes.append(Outcome(name, FAILED, one_line(failures[0].get("message", ""))))
            elif skips:
                outcomes.append(Outcome(name, SKIPPED, one_line(skips[0].get("message", "")) or "no reason given"))
            elif case.get("status") == "notrun":
                outcomes.append(Outcome(name, SKIPPED, "disabled in the source"))
            else:
                outcomes.append(Outcome(name, PASSED))
    return outcomes


def read_gtest_executable(name: str, report: Path, passed: bool, message: str, output: str) -> list[Outcome]:
    """The cases of one executable; its own failure too, when no case explains it (a crash, a leak found at exit)."""
    try:
        cases = read_gtest(report)
    except (ET.ParseError, OSError) as error:
        return [Outcome(name, FAILED, f"its report {report.name} cannot be read: {error}", output)]
    if passed and not cases:
        return [Outcome(name, FAILED, "ran no test case", output)]
    output = without_passed_cases(output)
    failed = [case for case in cases if case.state == FAILED]
    if failed:
        # The executable's output explains all its failed cases: keep it once.
        first = cases.index(failed[0])
        cases[first] = cases[first]._replace(output=output)
    report_line = SANITIZER.search(output)
    if not passed and report_line:
        cases.append(Outcome(name, FAILED, report_line.group(1), "" if failed else output))
    elif not passed and not failed:
        cases.append(Outcome(name, FAILED, f"{message or 'failed'}, although no case failed", output))
    return cases


def read_script(name: str, state: str, message: str, output: str) -> list[Outcome]:
    """A test without a report: itself, and each `SKIPPED <case>: <reason>` it printed."""
    skips = [Outcome(f"{name}: {m['case']}", SKIPPED, m["reason"].strip()) for m in SKIP_LINE.finditer(output)]
    if state == FAILED:
        return [Outcome(name, FAILED, message or "failed", output), *skips]
    if state == SKIPPED:
        return skips or [Outcome(name, SKIPPED, "no reason given")]
    return [Outcome(name, PASSED), *skips]


def read(junit: Path, reports: Path) -> list[Outcome]:
    """Every case of one ctest run, from `ctest --output-junit` and the GoogleTest reports in `reports`."""
    outcomes: list[Outcome] = []
    for test in ET.parse(junit).getroot().iter("testcase"):
        name = test.get("name", "?")
        failure, skip = test.find("failure"), test.find("skipped")
        output = test.findtext("system-out") or ""
        # A test whose program is missing is "notrun" without having asked to be skipped: that is a failure.
        asked_to_skip = skip is not None and "SKIP_" in skip.get("message", "")
        if test.get("status") == "run" and failure is None:
            state, message = PASSED, ""
        elif asked_to_skip:
            state, message = SKIPPED, ""
        else:
            state = FAILED
            element = failure if failure is not None else skip
            message = one_line(element.get("message", "")) if element is not None else f"status {test.get('status')}"
        report = reports / f"{name}.xml"
        if report.exists():
            outcomes += read_gtest_executable(name, report, state == PASSED, message, output)
        else:
            outcomes += read_script(name, state, message, output)
    return outcomes


def count(outcomes: list[Outcome]) -> str:
    """`N passed, M failed, K skipped`"""
    return ", ".join(f"{sum(o.state == state for o in outcomes)} {state}" for state in (PASSED, FAILED, SKIPPED))
