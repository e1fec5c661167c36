#!/usr/bin/env python3
"""Leap on Linux's NVMe/TCP target (nvmet): identify, verified loads, a lost port, and a whole worker."""

from __future__ import annotations

import json
import signal
import subprocess
import unittest
from array import array
from pathlib import Path

from interop_case import InteropCase, main
from leap_process import Server, free_port

NQN = "nqn.2026-11.dev.leap:nvmet"
WORKER_NQN = "nqn.2026-11.dev.leap:nvmet-worker"
MIB = 1 << 20
# Namespace 1 is a RAM disk with blocks of 512 bytes, namespace 2 a file with blocks of 4096.
DISK_BYTES, FILE_BYTES, WORKER_BYTES = 64 * MIB, 32 * MIB, 128 * MIB
RANGE = 16 * MIB
BOTH_DIGESTS = ("--hdgst", "--ddgst")
LOADS = (("randrw", "4k", "32"), ("rw", "128k", "16"), ("randrw", "1m", "4"))
BLOCK_SIZES = (1, 511, 4096, 4097, 128 << 10, MIB + 1, 5_000_001)
DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"


def contents(block: int, size: int, generation: int) -> bytes:
    """Every 8 bytes name their block, generation and offset."""
    first = (block << 56) + (generation << 48)
    return array("Q", range(first, first + size + 7, 8)).tobytes()[:size]


class LinuxTarget(InteropCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.guest.run(f"load brd rd_nr=1 rd_size={DISK_BYTES >> 10} && truncate -s {FILE_BYTES} /tmp/ns2 && nvmet_port")
        cls.guest.run(f"nvmet_subsystem {NQN} /dev/ram0 /tmp/ns2 && nvmet_listen {NQN}")
        cls.device = f"nvme+tcp://127.0.0.1:{cls.guest.port}/{NQN}"

    def bench_command(self, nsid: int, seconds: float, load: tuple[str, str, str], *options: str) -> list[str]:
        rw, block, depth = load
        return ["bench", "io", "--device", self.device, "--nsid", str(nsid), "--rw", rw, "--bs", block, "--qd", depth,
                "--time", str(seconds), "--warmup", "0", "--range", str(RANGE), "--verify", "--check-protocol",
                "--json", *options]

    def assert_verified(self, report: dict[str, object]) -> None:
        self.assertEqual((report["errors"], report["verify_errors"]), (0, 0), report.get("first_error"))
        for count in ("reads", "writes", "verified_units"):
            self.assertGreater(report[count], 0, count)

    def verified_load(self, nsid: int, load: tuple[str, str, str], *options: str) -> None:
        self.assert_verified(json.loads(self.leap(*self.bench_command(nsid, 0.5, load, *options))))

    def load_under_way(self, seconds: float) -> subprocess.Popen[bytes]:
        """A verified load that has filled its range and gone on from there."""
        before = int(self.guest.run("received"))
        bench = subprocess.Popen([self.leap_path, *self.bench_command(1, seconds, LOADS[0])], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        self.addCleanup(bench.kill)
        self.guest.run(f"wait_for 20 received_above {before + RANGE + RANGE // 4}")
        return bench

    def test_identify_describes_the_kernels_controller(self) -> None:
        found = json.loads(self.leap("identify", self.device, "--json"))
        self.assertEqual((found["model"], found["subnqn"], found["discovery"]), ("Linux", NQN, False))
        namespaces = [(ns["nsid"], ns["size"], ns["block_size"], ns["uuid_is_derived"]) for ns in found["namespaces"]]
        self.assertEqual(namespaces, [(1, DISK_BYTES, 512, False), (2, FILE_BYTES, 4096, False)])
        uuids = self.guest.run(f"cat $nvmet/subsystems/{NQN}/namespaces/*/device_uuid").split()
        self.assertEqual([ns["uuid"] for ns in found["namespaces"]], uuids)

    def test_identify_describes_the_discovery_controller(self) -> None:
        found = json.loads(self.leap("identify", f"nvme+tcp://127.0.0.1:{self.guest.port}/{DISCOVERY_NQN}", "--json"))
        self.assertEqual((found["model"], found["subnqn"], found["discovery"]), ("Linux", DISCOVERY_NQN, True))
        self.assertEqual(found["namespaces"], [])

    def test_discover_lists_the_subsystem_and_its_port(self) -> None:
        listed = self.leap("discover", f"127.0.0.1:{self.guest.port}").decode()
        self.assertIn(NQN, listed)
        self.assertIn("4420", listed)
        log = json.loads(self.leap("discover", f"127.0.0.1:{self.guest.port}", "--json"))["discovery"][0]
        found = {(entry["subtype"], entry["subnqn"], entry["trtype"], entry["problem"]) for entry in log["records"]}
        self.assertIn(("nvme subsystem", NQN, "tcp", ""), found)

    def test_verified_loads_without_and_with_digests(self) -> None:
        for nsid, digests in ((1, ()), (1, BOTH_DIGESTS), (2, BOTH_DIGESTS)):
            for load in LOADS:
                with self.subTest(nsid=nsid, digests=digests, load=load):
                    self.verified_load(nsid, load, *digests)
        # The kernel sees what was written where Leap meant it.
        self.guest.run(f"blkio stamps /dev/ram0 0 {RANGE}")

    def test_a_closed_port_ends_a_load_with_its_reason(self) -> None:
        bench = self.load_under_way(seconds=4)
        self.guest.run(f"nvmet_mute {NQN}")
        try:
            printed, _ = bench.communicate(timeout=30)
        finally:
            self.guest.run(f"nvmet_listen {NQN}")
        report = json.loads(printed)
        self.assertEqual(bench.returncode, 1)
        self.assertGreater(report["errors"], 0)
        self.assertEqual(report["verify_errors"], 0)
        self.assertIn(NQN, report["first_error"])
        self.verified_load(1, LOADS[0])

    def test_a_load_goes_on_when_the_port_is_open_again(self) -> None:
        bench = self.load_under_way(seconds=6)
        self.guest.run(f"nvmet_mute {NQN} && sleep 1 && nvmet_listen {NQN}")
        printed, complaints = bench.communicate(timeout=30)
        self.assertEqual(bench.returncode, 0, complaints)
        self.assert_verified(json.loads(printed))

    def write_conf(self) -> tuple[Path, str]:
        rpc, web = free_port(), free_port()
        conf = self.dir / "worker.toml"
        conf.write_text(
            f'cluster_id = "interop"\n[worker]\nhostname = "127.0.0.1"\nrpc_port = {rpc}\nweb_port = {web}\n'
            f'data_dir = ["[SPDK_DISK]{self.dir}/data"]\n[worker.spdk_disk]\nenabled = true\nhugepage = "64MB"\n'
            f'[[worker.spdk_disk.targets]]\ntrtype = "tcp"\ntraddr = "127.0.0.1"\ntrsvcid = {self.guest.port}\n'
            f'subnqn = "{WORKER_NQN}"\nhdgst = true\nddgst = true\n')
        return conf, f"127.0.0.1:{rpc}"

    def test_a_worker_keeps_its_blocks(self) -> None:
        self.guest.run(f"truncate -s {WORKER_BYTES} /tmp/worker && nvmet_subsystem {WORKER_NQN} /tmp/worker && nvmet_listen {WORKER_NQN}")
        self.addCleanup(self.guest.run, f"nvmet_mute {WORKER_NQN}")
        conf, address = self.write_conf()
        self.leap("format", "--conf", str(conf))
        stored: dict[int, bytes] = {}
        for generation, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGTERM), start=1):
            worker = Server(self.dir / "worker.log", self.leap_path, "worker", "--conf", str(conf), "--standalone")
            self.addCleanup(worker.process.kill)
            self.assert_blocks(address, stored)
            for block, size in enumerate(BLOCK_SIZES, start=1):
                # Some are new in every generation, the others written over.
                block_id = block if block % 2 else generation * 16 + block
                stored[block_id] = contents(block_id, size, generation)
                self.leap("block", "put", "--worker", address, "--id", str(block_id), data=stored[block_id])
            self.assert_blocks(address, stored)
            self.assertEqual(worker.stop(number), -number if number == signal.SIGKILL else 0)

    def assert_blocks(self, address: str, stored: dict[int, bytes]) -> None:
        for block, data in stored.items():
            # Not assertEqual: nobody wants to read the difference.
            self.assertTrue(self.leap("block", "get", "--worker", address, "--id", str(block)) == data, f"block {block}")
        listed = self.leap("block", "ls", "--worker", address, "--json").decode().splitlines()
        self.assertEqual(sorted(json.loads(line)["id"] for line in listed), sorted(stored))


if __name__ == "__main__":
    main(__doc__ or "")
