#!/usr/bin/env python3
"""Linux's NVMe/TCP host on `leap target`: what users of the kernel's driver do, with contents checked at every position."""

from __future__ import annotations

import contextlib
import os
import signal
import unittest
from array import array
from typing import Iterator

from interop_case import HOST, InteropCase, main
from leap_process import Server, free_port

NQN = "nqn.2026-11.dev.leap:interop"
MIB = 1 << 20
NAMESPACE_BYTES = 64 * MIB
BOTH_DIGESTS = "-g -G"
# With two CPUs: two queues for reads and two for writes, beside the admin queue.
QUEUES = "-i 2 -W 2"
QUEUE_COUNT = 5
IN_MEMORY, IN_FILE = "/dev/nvme0n1", "/dev/nvme0n2"


class LinuxHost(InteropCase):
    guest_cpus = 2

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.port = free_port()
        cls.backing = cls.dir / "ns2"
        cls.target = cls.serve()
        cls.addClassCleanup(cls.stop_target)
        cls.guest.run("nvme_host")

    @classmethod
    def serve(cls) -> Server:
        return Server(cls.dir / "target.log", cls.leap_path, "target", "--listen", f"127.0.0.1:{cls.port}", "--nqn", NQN,
                      "--namespace", f"mem:?size={NAMESPACE_BYTES}&block=512",
                      "--namespace", f"file://{cls.backing}?size={NAMESPACE_BYTES}", "--check-protocol")

    @classmethod
    def stop_target(cls) -> None:
        if (status := cls.target.stop()) != 0:
            raise AssertionError(f"the target ended with {status}: {cls.target.log.read_text()}")
        if "protocol checker" in (log := cls.target.log.read_text()):
            raise AssertionError(f"Linux and the target do not agree on NVMe/TCP: {log}")

    @contextlib.contextmanager
    def attached(self, options: str = "") -> Iterator[None]:
        self.guest.run(f"attach {self.port} {NQN} {QUEUES} {options} && wait_for 10 test -b {IN_FILE}")
        self.assertEqual(int(self.guest.run("cat /sys/class/nvme/nvme0/queue_count")), QUEUE_COUNT)
        try:
            yield
        finally:
            self.guest.run(f"detach {NQN}")

    def blkio(self, what: str, *numbers: int, device: str = IN_FILE) -> None:
        self.guest.run(f"blkio {what} {device} {' '.join(map(str, numbers))}")

    def assert_backing(self, offset: int, size: int, seed: int) -> None:
        """What the guest wrote with `seed` is in the target's file, at the same positions."""
        with self.backing.open("rb") as file:
            file.seek(offset)
            found = file.read(size)
        first = (seed << 48) + offset
        self.assertTrue(found == array("Q", range(first, first + size, 8)).tobytes(), f"seed {seed} at {offset}")

    def first_hole(self) -> int:
        """Where the target's file gave space back."""
        with self.backing.open("rb") as file:
            return os.lseek(file.fileno(), 0, os.SEEK_HOLE)

    def write_swap_check(self, seed: int, block: int, depth: int, size: int) -> None:
        for device in (IN_MEMORY, IN_FILE):
            self.blkio("write", MIB, size, block, depth, 2, seed, device=device)
            self.blkio("swap", MIB, size, block, depth, 2, seed, device=device)
            self.blkio("check", MIB, size, block, depth, 2, seed + 1, device=device)
        self.assert_backing(MIB, size, seed + 1)

    def test_discovery_lists_the_subsystem(self) -> None:
        log = self.guest.run(f"nvme discover -t tcp -a {HOST} -s {self.port}")
        self.assertIn("Number of Records 2", log)
        self.assertIn("current discovery subsystem", log)
        self.assertNotIn("unrecognized", log)
        entry = {"trtype": "tcp", "subtype": "nvme subsystem", "traddr": "127.0.0.1", "trsvcid": self.port, "subnqn": NQN,
                 "treq": "not specified, sq flow control disable supported", "sectype": "none"}
        for field, value in entry.items():
            self.assertRegex(log, rf"(?m)^{field}: +{value}$")

    def test_data_is_right_at_every_size_and_depth(self) -> None:
        with self.attached():
            self.write_swap_check(seed=1, block=4096, depth=32, size=8 * MIB)
            self.write_swap_check(seed=3, block=128 << 10, depth=16, size=32 * MIB)
            self.write_swap_check(seed=5, block=MIB, depth=4, size=32 * MIB)
            # Twice the largest transfer of the target: the kernel has to split.
            self.write_swap_check(seed=7, block=2 * MIB, depth=2, size=32 * MIB)

    def test_data_is_right_with_digests(self) -> None:
        for seed, options in ((11, "-g"), (21, "-G"), (31, BOTH_DIGESTS)):
            with self.subTest(options), self.attached(options):
                self.write_swap_check(seed, block=4096, depth=32, size=4 * MIB)
                self.write_swap_check(seed + 2, block=128 << 10, depth=8, size=8 * MIB)
                self.write_swap_check(seed + 4, block=MIB, depth=4, size=16 * MIB)

    def test_a_file_system_keeps_its_files(self) -> None:
        with self.attached(BOTH_DIGESTS):
            self.guest.run(f"mkfs.ext4 -q -F {IN_FILE} && mount -t ext4 {IN_FILE} /mnt")
            self.guest.run("dd if=/dev/urandom of=/tmp/file bs=1M count=24 && cp /tmp/file /mnt/file && cp -r /lib /mnt/lib")
            original = self.guest.run("sha256sum </tmp/file; rm /tmp/file")
            self.guest.run("umount /mnt && e2fsck -f -n " + IN_FILE)
        with self.attached():
            self.guest.run(f"mount -t ext4 {IN_FILE} /mnt")
            self.assertEqual(self.guest.run("sha256sum </mnt/file"), original)
            self.guest.run("diff -r /lib /mnt/lib && umount /mnt")

    def test_discard_and_write_zeroes_touch_only_their_range(self) -> None:
        seed, size = 41, 16 * MIB
        discarded, zeroed = (4 * MIB, 2 * MIB), (9 * MIB, 2 * MIB + 4096)  # longer than one Write Zeroes command
        with self.attached():
            limits = self.guest.run("cd /sys/block/nvme0n2/queue && cat discard_max_bytes write_zeroes_max_bytes write_cache")
            discard_limit, zeroes_limit, cache = limits.splitlines()
            # Otherwise the kernel writes zeros itself, or sends no Flush.
            self.assertGreater(int(discard_limit), 0)
            self.assertIn(int(zeroes_limit), range(1, zeroed[1]))
            self.assertEqual(cache, "write back")
            self.blkio("write", 0, size, 128 << 10, 8, 2, seed)
            self.guest.run(f"nvme flush {IN_FILE}")
            self.assertGreaterEqual(self.first_hole(), size)
            self.blkio("discard", *discarded)
            self.assertEqual(self.first_hole(), discarded[0])
            self.blkio("zero", *zeroed)
            for start, length in (discarded, zeroed):
                self.blkio("zeros", start, length)
            for start, end in ((0, discarded[0]), (sum(discarded), zeroed[0]), (sum(zeroed), size)):
                self.blkio("check", start, end - start, 4096, 8, 1, seed)
                self.assert_backing(start, end - start, seed)

    def test_the_host_comes_back_after_the_target_did(self) -> None:
        size = 8 * MIB
        with self.attached("-l 120 -c 1"):
            self.guest.run(f"churn {IN_FILE} {size} >/tmp/churn.log 2>&1 & wait_for 30 seed_above 1")
            for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
                self.assertEqual(LinuxHost.target.stop(number), status)
                self.guest.run("wait_for 20 state_is connecting")
                LinuxHost.target = self.serve()
                self.guest.run("wait_for 30 state_is live")
                seed = int(self.guest.run("cat /tmp/seed"))
                # Two rounds on: one whole round was checked and written through the new connection.
                self.guest.run(f"wait_for 30 seed_above {seed + 1} || {{ cat /tmp/churn.log; false; }}")
            self.guest.run("touch /tmp/stop; wait_for 30 test -e /tmp/churned || { cat /tmp/churn.log; false; }")
            seed = int(self.guest.run("cat /tmp/seed"))
            self.blkio("check", 0, size, MIB, 4, 1, seed)
            self.assert_backing(0, size, seed)


if __name__ == "__main__":
    main(__doc__ or "")
