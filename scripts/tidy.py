#!/usr/bin/env python3
"""clang-tidy over every source file of src/, in parallel, remembering what is already clean.

usage: tidy.py [--jobs N] [--build-dir build/release] [file ...]

Reads compile_commands.json of the build directory (so configure first; headers generated there must exist), drops the
flags only g++ knows, and runs clang-tidy 16 (or $CLANG_TIDY). A file is clean while nothing changes that clang-tidy
saw of this tree: its own text, the headers it includes, its flags, .clang-tidy and clang-tidy's version. Clean files
are remembered by that hash in build/tidy-cache/ and skipped. Exit status 1 when a file has findings.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Flags of g++ that clang rejects or that only decide about g++'s own warnings.
GCC_ONLY = re.compile(r"^(-fcoroutines|-Werror.*|-W(no-)?tsan|-Wno-maybe-uninitialized|-fconcepts.*|-fmodules-ts|-g\d?|-O\w?)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
CACHE_DAYS = 14


class Unit(NamedTuple):
    """One translation unit, as clang-tidy is to see it."""

    source: Path
    directory: Path
    arguments: tuple[str, ...]


def clang_arguments(command: str) -> tuple[str, ...]:
    """The compiler flags in `command`: no compiler, input or output, nothing that clang does not know."""
    words = shlex.split(command)
    kept: list[str] = []
    skip_next = False
    for word in words[1:]:
        if skip_next:
            skip_next = False
        elif word in ("-o", "-c"):
            skip_next = True
        elif not GCC_ONLY.match(word):
            kept.append(word)
    return tuple(kept)


def load_units(database: Path, root: Path) -> list[Unit]:
    units = []
    for entry in json.loads(database.read_text()):
        source = Path(entry["directory"], entry["file"]).resolve()
        if source.is_relative_to(root / "src") and source.suffix == ".cc":
            units.append(Unit(source, Path(entry["directory"]), clang_arguments(entry["command"])))
    return sorted(units)


def include_dirs(unit: Unit, root: Path) -> list[Path]:
    """The include directories of `unit` that belong to this tree (or its build directory)."""
    found = []
    words = iter(unit.arguments)
    for word in words:
        if word in ("-I", "-isystem"):
            found.append(next(words, ""))
        elif word.startswith("-I"):
            found.append(word[2:])
    paths = [(unit.directory / path).resolve() for path in found if path]
    return [path for path in paths if path.is_relative_to(root) or path.is_relative_to(unit.directory)]


def tree_files(unit: Unit, root: Path) -> set[Path]:
    """The unit's source and every file of this tree that it includes, directly or not."""
    folders = include_dirs(unit, root)
    seen: set[Path] = set()
    waiting = [unit.source]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in INCLUDE.findall(path.read_text(encoding="utf-8", errors="replace")):
            for folder in (path.parent, *folders):
                candidate = (folder / name).resolve()
                if candidate.is_file():
                    waiting.append(candidate)
                    break
    return seen


def key_of(unit: Unit, root: Path, tool: str) -> str:
    """What clang-tidy's verdict on `unit` depends on, as one hash. `tool` names the program, version and settings."""
    digest = hashlib.sha256(f"{tool}\0{shlex.join(unit.arguments)}".encode())
    for path in sorted(tree_files(unit, root)):
        digest.update(f"\0{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run_tidy(program: str, unit: Unit) -> tuple[bool, str]:
    done = subprocess.run(
        [program, "--quiet", str(unit.source), "--", *unit.arguments],
        cwd=unit.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
    )
    # Standard error only counts suppressed warnings, unless clang-tidy itself failed without a word.
    return done.returncode == 0, done.stdout or done.stderr


def tool_identity(program: str, root: Path) -> str:
    version = subprocess.run([program, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return f"{program}\0{version}\0{(root / '.clang-tidy').read_text()}"


def forget_old(cache: Path) -> None:
    limit = time.time() - CACHE_DAYS * 86400
    for path in cache.iterdir():
        if path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)


def check(units: list[Unit], program: str, root: Path, cache: Path, jobs: int) -> list[Unit]:
    """Runs clang-tidy on the units not known to be clean, prints what it finds, returns the units with findings."""
    cache.mkdir(parents=True, exist_ok=True)
    forget_old(cache)
    tool = tool_identity(program, root)
    marks = {unit: cache / key_of(unit, root, tool) for unit in units}
    stale = [unit for unit, mark in marks.items() if not mark.exists()]
    for mark in marks.values():
        if mark.exists():
            mark.touch()
    bad: list[Unit] = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=jobs) as pool:
        runs = {pool.submit(run_tidy, program, unit): unit for unit in stale}
        for count, run in enumerate(concurrent.futures.as_completed(runs), start=1):
            unit, (clean, output) = runs[run], run.result()
            print(f"[{count}/{len(stale)}] {unit.source.relative_to(root)}: {'clean' if clean else 'FINDINGS'}", flush=True)
            if clean:
                marks[unit].touch()
            else:
                bad.append(unit)
                print(output, flush=True)
    print(f"tidy: {len(units)} files, {len(units) - len(stale)} unchanged, {len(bad)} with findings")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description="clang-tidy over src/, skipping files known to be clean")
    parser.add_argument("files", nargs="*", type=Path, help="only these sources (default: all of src/)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build" / "release")
    options = parser.parse_args()
    database = options.build_dir / "compile_commands.json"
    if not database.is_file():
        print(f"tidy: {database} is missing: configure first (cmake --preset release)", file=sys.stderr)
        return 2
    units = load_units(database, ROOT)
    if options.files:
        wanted = {path.resolve() for path in options.files}
        units = [unit for unit in units if unit.source in wanted]
        missing = wanted - {unit.source for unit in units}
        if missing:
            print(f"tidy: not compiled from src/: {', '.join(map(str, sorted(missing)))}", file=sys.stderr)
            return 2
    program = os.environ.get("CLANG_TIDY", "clang-tidy-16")
    return 1 if check(units, program, ROOT, ROOT / "build" / "tidy-cache", options.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
