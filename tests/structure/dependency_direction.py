#!/usr/bin/env python3
"""Rooms depend on lower rooms only: by #include and by the targets they link.

usage: dependency_direction.py <root of the source tree>

Every `#include "<room>/..."` under src/<room>/ and every `leap_<room>` in its CMakeLists.txt must name the room itself
or one to its left in rooms.ORDER. Prints file:line of each violation; exit status 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import rooms
from rooms import Finding

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
# leap_options and leap_room() are no rooms; a target like leap_host_tcp counts for the room it starts with.
TARGET = re.compile(r"\bleap_(" + "|".join(rooms.ORDER) + r")(?:_[a-z_]+)?\b")


def check_include(room: str, path: Path, line: int, included: str) -> Finding | None:
    if included.endswith(".pb.h"):
        return None
    first = included.split("/")[0]
    if "/" not in included or first not in rooms.ORDER:
        return Finding(path, line, f'"{included}" does not start with a room: write includes from src/, as "room/file.h"')
    if not rooms.may_use(room, first):
        return Finding(path, line, f'room "{room}" includes "{included}": "{first}" is a higher room')
    return None


def check_includes(root: Path, room: str, path: Path) -> list[Finding]:
    found = []
    for line, text in rooms.numbered_lines(path):
        match = INCLUDE.match(text)
        if match:
            found.append(check_include(room, path, line, match.group(1)))
    return [finding for finding in found if finding]


def check_links(room: str, path: Path) -> list[Finding]:
    return [
        Finding(path, line, f'room "{room}" links leap_{used}: "{used}" is a higher room')
        for line, text in rooms.numbered_lines(path)
        for used in TARGET.findall(text.split("#")[0])
        if not rooms.may_use(room, used)
    ]


def check(root: Path) -> tuple[list[Finding], int]:
    """All violations under `root`, and how many files were read."""
    findings: list[Finding] = []
    looked_at = 0
    for room in rooms.rooms(root):
        folder = root / "src" / room
        if room not in rooms.ORDER:
            findings.append(Finding(folder, 1, f'"{room}" is no known room: give it a place in rooms.ORDER'))
            continue
        for path in rooms.files(folder, "*.h", "*.cc"):
            findings += check_includes(root, room, path)
            looked_at += 1
        for path in rooms.files(folder, "CMakeLists.txt"):
            findings += check_links(room, path)
            looked_at += 1
    return findings, looked_at


if __name__ == "__main__":
    tree = Path(sys.argv[1]).resolve()
    sys.exit(rooms.report("dependency_direction", tree, *check(tree)))
