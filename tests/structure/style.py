#!/usr/bin/env python3
"""The rules of the house that no compiler or formatter holds.

usage: style.py <root of the source tree>

  * a source file has at most 600 lines,
  * no unfinished work is marked in the code,
  * headers start with a comment (the contract) and are guarded by #pragma once,
  * a lambda that is a coroutine captures nothing: its captures die with the lambda, before the coroutine ends
    (unless it is given to NvmePoller::run(), which keeps it),
  * every room has a README.md of at most 30 lines and a folder of tests,
  * the order of the rooms is the same here and in the root CMakeLists.txt.

Prints file:line of each violation; exit status 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import rooms
from rooms import Finding

MAX_LINES = 600
MAX_README_LINES = 30
CODE = ("*.h", "*.cc")
TEXT = CODE + ("*.py", "*.sh", "CMakeLists.txt", "*.cmake", "*.proto", "*.toml")
# Spelled in halves, so that this file may be checked as well.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
# A lambda up to its body: captures, then parameters (which may hold one level of parentheses) and a return type.
LAMBDA = re.compile(r"\[(?P<captures>[^\[\]\n]*)\]\s*(?:<[^>]*>\s*)?\([^()]*(?:\([^()]*\)[^()]*)*\)[^(){};,]*\{")
GIVEN_TO_RUN = re.compile(r"(?:\.|->)run\(\s*$")
COROUTINE_WORD = re.compile(r"\bco_(?:await|return|yield)\b")


def check_length(path: Path) -> list[Finding]:
    lines = sum(1 for _ in rooms.numbered_lines(path))
    if lines <= MAX_LINES:
        return []
    return [Finding(path, lines, f"{lines} lines: split it before it gets a second responsibility (limit {MAX_LINES})")]


def check_unfinished(path: Path) -> list[Finding]:
    return [
        Finding(path, line, f"{match.group(1)}: finish it or open an issue")
        for line, text in rooms.numbered_lines(path)
        for match in UNFINISHED.finditer(text)
    ]


def check_header(path: Path) -> list[Finding]:
    text = path.read_text(encoding="utf-8", errors="replace")
    findings = []
    if not text.startswith("//"):
        findings.append(Finding(path, 1, "a header starts with a comment that says what it promises"))
    if not re.search(r"^#pragma once$", text, re.MULTILINE):
        findings.append(Finding(path, 1, "no #pragma once"))
    return findings


def end_of_block(text: str, start: int) -> int:
    """The position after the brace that closes the block whose first character is text[start]."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    return len(text)


def is_coroutine(body: str) -> bool:
    """Whether `body` itself awaits or returns as a coroutine: lambdas inside it do not count."""
    own, position = "", 0
    while nested := LAMBDA.search(body, position):
        own += body[position : nested.start()]
        position = end_of_block(body, nested.end())
    return COROUTINE_WORD.search(own + body[position:]) is not None


def check_coroutine_lambdas(path: Path) -> list[Finding]:
    text = path.read_text(encoding="utf-8", errors="replace")
    findings = []
    position = 0
    # Searches on from inside each lambda, so that nested ones are seen as well.
    while match := LAMBDA.search(text, position):
        position = match.end()
        if not match["captures"].strip() or GIVEN_TO_RUN.search(text[: match.start()][-40:]):
            continue
        if is_coroutine(text[position : end_of_block(text, position)]):
            line = text.count("\n", 0, match.start()) + 1
            findings.append(Finding(path, line, "a coroutine lambda captures: pass parameters instead"))
    return findings


def check_room(root: Path, room: str) -> list[Finding]:
    findings = []
    readme = root / "src" / room / "README.md"
    if not readme.is_file():
        findings.append(Finding(readme, 1, f'room "{room}" has no README.md'))
    else:
        lines = sum(1 for _ in rooms.numbered_lines(readme))
        if lines > MAX_README_LINES:
            findings.append(Finding(readme, lines, f"{lines} lines (limit {MAX_README_LINES})"))
    if not (root / "tests" / room / "CMakeLists.txt").is_file():
        findings.append(Finding(root / "tests" / room, 1, f'room "{room}" has no tests'))
    return findings


def check_room_order(root: Path) -> list[Finding]:
    lists = root / "CMakeLists.txt"
    for line, text in rooms.numbered_lines(lists):
        match = re.match(r"set\(LEAP_ROOMS ([a-z_ ]+)\)", text)
        if match and tuple(match.group(1).split()) == rooms.ORDER:
            return []
        if match:
            return [Finding(lists, line, f"LEAP_ROOMS differs from rooms.ORDER: {' '.join(rooms.ORDER)}")]
    return [Finding(lists, 1, "no set(LEAP_ROOMS ...)")]


def check(root: Path) -> tuple[list[Finding], int]:
    """All violations under `root`, and how many files were read."""
    findings = check_room_order(root)
    looked_at = 1
    for room in rooms.rooms(root):
        findings += check_room(root, room)
    for folder in (root / name for name in ("src", "tests", "bench", "cmake", "scripts", "proto")):
        for path in rooms.files(folder, *TEXT) if folder.is_dir() else ():
            findings += check_unfinished(path)
            looked_at += 1
            if path.suffix in (".h", ".cc"):
                findings += check_coroutine_lambdas(path)
    for path in rooms.files(root / "src", *CODE):
        findings += check_length(path)
        if path.suffix == ".h":
            findings += check_header(path)
    return findings, looked_at


if __name__ == "__main__":
    tree = Path(sys.argv[1]).resolve()
    sys.exit(rooms.report("style", tree, *check(tree)))
