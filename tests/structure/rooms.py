"""The rooms of src/ in their order, and the files a checker looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

# Lowest first: a room may use itself and rooms further to the left (docs/ARCHITECTURE.md, "Rooms").
ORDER = ("base", "memory", "nvme", "poller", "host", "bdev", "env", "store", "rpc", "worker", "client", "target", "workload", "cli")


class Finding(NamedTuple):
    """One broken rule, at a place an editor can jump to."""

    path: Path
    line: int
    text: str

    def format(self, root: Path) -> str:
        return f"{self.path.relative_to(root)}:{self.line}: {self.text}"


def rooms(root: Path) -> list[str]:
    """The rooms that exist: the folders of src/ that hold a file."""
    return sorted(d.name for d in (root / "src").iterdir() if d.is_dir() and any(f.is_file() for f in d.rglob("*")))


def files(folder: Path, *patterns: str) -> Iterator[Path]:
    """The files under `folder` that match one of `patterns`, in a stable order."""
    found = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return iter(sorted(found))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    return enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)


def may_use(user: str, used: str) -> bool:
    return ORDER.index(used) <= ORDER.index(user)


def report(name: str, root: Path, findings: list[Finding], looked_at: int) -> int:
    """Prints the findings and a summary; the exit status of the checker."""
    for finding in findings:
        print(finding.format(root))
    print(f"{name}: {looked_at} files, {len(findings)} violations")
    return 1 if findings else 0
