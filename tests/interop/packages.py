"""Debian packages that are unpacked, not installed: the peers' kernel and tools.

Works with and without root. A package is downloaded once per version into the cache folder and unpacked there:
installing a kernel would run boot-loader hooks, and nothing here needs it installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

KERNEL = "linux-image-cloud-amd64"  # a meta package: what it depends on is the current kernel
TOOLS = ("nvme-cli", "libnvme1", "libjson-c5", "libdbus-1-3", "e2fsprogs", "libext2fs2")
COMMAND_SECONDS = 300


class Unavailable(Exception):
    """Something that the tests need cannot be had on this machine; the message says what and why."""


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leap" / "interop"


def run(*argv: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        why = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise Unavailable(f"{argv[0]}: {why[-1]}")
    return done.stdout


class Apt:
    """apt's view of the archive: the machine's own lists, or private ones where those are missing or out of date."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.options: list[str] = []
        if os.geteuid() == 0:
            # Else apt becomes the user _apt for downloads, who may not write to the cache.
            self.options = ["-o", "APT::Sandbox::User=root"]

    def update_privately(self) -> None:
        private = self.cache / "apt"
        for folder in ("lists/partial", "archives/partial"):
            (private / folder).mkdir(parents=True, exist_ok=True)
        self.options += ["-o", f"Dir::State::lists={private}/lists", "-o", f"Dir::Cache={private}"]
        run("apt-get", *self.options, "-q", "update")

    def current_kernel(self) -> str:
        listed = run("apt-cache", *self.options, "depends", KERNEL)
        found = re.search(r"Depends: (linux-image-\S+)", listed)
        if not found:
            raise Unavailable(f"apt knows no {KERNEL}")
        return found[1]

    def unpacked(self, packages: list[str]) -> dict[str, Path]:
        """By package: the folders that hold the files of `packages` in their current versions."""
        uris = run("apt-get", *self.options, "download", "--print-uris", *packages)
        archives = re.findall(r"^'\S+' ((\S+?)_\S+)\.deb ", uris, re.MULTILINE)
        if len(archives) != len(packages):
            raise Unavailable(f"apt has no download of some of: {' '.join(packages)}")
        return {package: self.unpack(package, self.cache / name) for name, package in archives}

    def unpack(self, package: str, folder: Path) -> Path:
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(dir=self.cache) as name:
            scratch = Path(name)
            run("apt-get", *self.options, "-q", "download", package, cwd=scratch)
            (deb,) = scratch.glob("*.deb")
            run("dpkg-deb", "-x", str(deb), str(scratch / "files"))
            try:
                # Complete or absent, also when two test runs fetch at the same time.
                os.rename(scratch / "files", folder)
            except OSError:
                if not folder.is_dir():
                    raise
        return folder


class Packages:
    """What the guests are made of: `kernel` and `tools` are folders with unpacked packages, `busybox` a static program."""

    def __init__(self, cache: Path) -> None:
        for program in ("qemu-system-x86_64", "busybox", "apt-get", "dpkg-deb"):
            if not shutil.which(program):
                raise Unavailable(f"no {program} here (scripts/install-deps.sh installs what the tests need)")
        run("qemu-system-x86_64", "--version")  # does it start at all?
        self.busybox = Path(shutil.which("busybox") or "")
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"no cache folder: {error}") from error
        apt = Apt(cache)
        try:
            self.fetch(apt)
        except Unavailable as reason:
            apt.update_privately()
            try:
                self.fetch(apt)
            except Unavailable as again:
                raise Unavailable(f"{reason}; with fresh package lists: {again}") from again

    def fetch(self, apt: Apt) -> None:
        kernel = apt.current_kernel()
        folders = apt.unpacked([kernel, *TOOLS])
        self.kernel = folders.pop(kernel)
        self.tools = list(folders.values())
