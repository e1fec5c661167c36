"""What the interop tests share: their command line, the guest of a test class, `leap` as a program, named skips."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import initramfs
from guest import Guest
from packages import Packages, Unavailable, default_cache

SKIPPED_STATUS = 77
HOST = "10.0.2.2"  # what the guest calls the machine that runs it


class InteropCase(unittest.TestCase):
    """Tests of one guest: it boots before the first and is killed after the last one."""

    leap_path: str
    packages: Packages
    image: Path
    guest_seconds = 300
    guest_cpus = 1

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory(prefix="leap-interop-")
        cls.addClassCleanup(folder.cleanup)
        cls.dir = Path(folder.name)
        cls.guest = Guest(cls.packages.kernel, cls.image, cls.dir / "console.log", cls.guest_seconds, cls.guest_cpus)
        cls.addClassCleanup(cls.guest.stop)

    def leap(self, *arguments: str, data: bytes = b"", timeout: float = 60) -> bytes:
        """What `leap` prints; its failure is the test's, and so is what a protocol checker says."""
        done = subprocess.run([self.leap_path, *arguments], input=data, capture_output=True, timeout=timeout)
        self.assertEqual(done.returncode, 0, f"leap {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
        self.assertNotIn(b"protocol checker", done.stderr)
        return done.stdout


def name_skips(result: unittest.TestResult) -> None:
    for case, reason in result.skipped:
        print(f"SKIPPED interop.{case.id().split('.')[-1]}: {reason}", flush=True)


def main(description: str) -> None:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("leap", type=Path, help="the binary")
    parser.add_argument("blkio", type=Path, help="guest/blkio.c, built")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where packages are kept (default: %(default)s)")
    options, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="leap-interop-") as folder:
        InteropCase.leap_path = str(options.leap.resolve())
        InteropCase.image = Path(folder) / "initramfs.cpio"
        try:
            InteropCase.packages = Packages(options.cache.resolve())
            initramfs.build(InteropCase.image, InteropCase.packages, [options.blkio])
        except Unavailable as reason:
            print(f"SKIPPED interop.{Path(sys.argv[0]).stem.removesuffix('_test')}: {reason}", flush=True)
            sys.exit(SKIPPED_STATUS)
        program = unittest.main(argv=[sys.argv[0], *others], verbosity=2, exit=False)
    name_skips(program.result)
    sys.exit(0 if program.result.wasSuccessful() else 1)
