#!/usr/bin/env python3
"""What other people's scripts rely on: ready lines, exit statuses, JSON fields, blocks that survive SIGTERM and SIGKILL.

usage: contract_test.py LEAP
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from leap_process import Server, free_port  # noqa: E402

LEAP = ""
NQN = "nqn.2026-11.dev.leap:contract"


def leap(*arguments: str, data: bytes = b"", timeout: int = 60) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([LEAP, *arguments], input=data, capture_output=True, timeout=timeout)


def serve(log: Path, *arguments: str) -> Server:
    return Server(log, LEAP, *arguments)


class Contract(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = Path(cls.folder.name)
        cls.port = free_port()
        cls.device = f"trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:{cls.port} subnqn:{NQN}"
        cls.target = serve(cls.dir / "target.log", "target", "--listen", f"127.0.0.1:{cls.port}", "--nqn", NQN,
                            "--namespace", "mem:?size=256MiB", "--namespace", f"file://{cls.dir}/ns2?size=64MiB",
                            # Nothing but the worker writes here: `leap format` takes a namespace that holds nothing.
                            "--namespace", "mem:?size=128MiB")

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.target.stop()
        cls.folder.cleanup()
        assert status == 0, f"the target ended with {status}"

    def fails_with(self, text: str, *arguments: str) -> None:
        done = leap(*arguments)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stderr.decode())
        self.assertNotIn("CHECK failed", done.stderr.decode())

    def test_bench_prints_one_json_object(self) -> None:
        for nsid, rw in (("1", "randread"), ("1", "randrw"), ("2", "randwrite")):
            done = leap("bench", "io", "--device", self.device, "--nsid", nsid, "--rw", rw, "--bs", "4k", "--qd", "32", "--time", "0.5",
                        "--range", "16m", "--verify", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertGreater(report["iops"], 0)
            self.assertGreater(report["verified_units"], 0)
            self.assertEqual((report["errors"], report["verify_errors"]), (0, 0))
            self.assertEqual(report["allocs_per_io"], 0)
            self.assertLessEqual(set(("avg", "p50", "p99", "p999", "max")), set(report["lat_us"]))
            for key in ("mib_per_s", "cpu_seconds", "syscalls_per_io"):
                self.assertGreater(report[key], 0)

    def test_identify_names_every_namespace(self) -> None:
        done = leap("identify", self.device, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([ns["size"] for ns in json.loads(done.stdout)["namespaces"]], [256 << 20, 64 << 20, 128 << 20])

    def test_discover_lists_the_target(self) -> None:
        where = f"127.0.0.1:{self.port}"
        done = leap("discover", where)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"subnqn:  {NQN}\n", done.stdout.decode())
        log = json.loads(leap("discover", where, "--json", "--follow-referrals").stdout)["discovery"][0]
        self.assertEqual([(entry["subtype"], entry["trsvcid"], entry["problem"]) for entry in log["records"]],
                         [("current discovery subsystem", str(self.port), ""), ("nvme subsystem", str(self.port), "")])
        self.fails_with("is no discovery controller", "discover", self.device)
        self.fails_with("hostnqn", "discover", where, "--hostnqn", "me")

    def test_wrong_devices_are_one_clear_error(self) -> None:
        self.fails_with("--nsid", "bench", "io", "--device", self.device)  # several namespaces: which?
        self.fails_with("has no namespace 9", "bench", "io", "--device", self.device, "--nsid", "9")
        self.fails_with("refused", "bench", "io", "--device", f"nvme+tcp://127.0.0.1:{free_port()}/{NQN}")
        self.fails_with("banana", "bench", "io", "--device", "mem:?size=banana")
        self.fails_with("in use", "target", "--listen", f"127.0.0.1:{self.port}", "--nqn", NQN, "--namespace", "mem:?size=1MiB")

    def write_conf(self, name: str, extra: str = "") -> tuple[Path, int]:
        rpc, web = free_port(), free_port()
        conf = self.dir / f"{name}.toml"
        conf.write_text(
            f'cluster_id = "test"\n[worker]\nhostname = "127.0.0.1"\nrpc_port = {rpc}\nweb_port = {web}\n'
            f'data_dir = ["[SPDK_DISK]{self.dir}/{name}"]\n{extra}[worker.spdk_disk]\nenabled = true\nhugepage = "64MB"\n'
            f'[[worker.spdk_disk.targets]]\ntrtype = "tcp"\ntraddr = "127.0.0.1"\ntrsvcid = {self.port}\nsubnqn = "{NQN}"\n')
        return conf, rpc

    def test_blocks_survive_sigterm_and_sigkill(self) -> None:
        conf, rpc = self.write_conf("blocks")
        self.assertEqual(leap("worker", "--conf", str(conf), "--check").returncode, 0)
        self.fails_with("not formatted", "worker", "--conf", str(conf), "--standalone")
        formatted = leap("format", "--conf", str(conf))
        self.assertEqual(formatted.returncode, 0, formatted.stderr)
        address = f"127.0.0.1:{rpc}"
        stored: dict[str, bytes] = {}
        noise = random.Random(1)
        command = ("worker", "--conf", str(conf), "--standalone")
        worker = serve(self.dir / "worker.log", *command)
        for block, size in enumerate((0, 1, 4095, 4096, 4097, 1 << 20, 5_000_001), start=1):
            stored[str(block)] = noise.randbytes(size)
            done = leap("block", "put", "--worker", address, "--id", str(block), data=stored[str(block)])
            self.assertEqual(done.returncode, 0, done.stderr)
        stored["2"] = b"rewritten, and longer than it was"
        self.assertEqual(leap("block", "put", "--worker", address, "--id", "2", data=stored["2"]).returncode, 0)
        self.assertEqual(leap("block", "rm", "--worker", address, "--id", "3").returncode, 0)
        del stored["3"]
        for number, expected in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
            for block, data in stored.items():
                got = leap("block", "get", "--worker", address, "--id", block)
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual(hashlib.sha256(got.stdout).digest(), hashlib.sha256(data).digest(), f"block {block}")
            listed = leap("block", "ls", "--worker", address, "--json").stdout.decode().splitlines()
            self.assertEqual(sorted(str(json.loads(line)["id"]) for line in listed), sorted(stored))
            self.fails_with("3", "block", "get", "--worker", address, "--id", "3")
            self.assertEqual(json.loads(leap("block", "stat", "--worker", address, "--id", "7", "--json").stdout)["length"], 5_000_001)
            self.assertEqual(worker.stop(number), expected)
            worker = serve(self.dir / "worker.log", *command)
        # A second worker on the same device and metadata, while the first one serves.
        self.fails_with("in use", "worker", "--conf", str(conf), "--standalone")
        bench = leap("bench", "worker", "--worker", address, "--rw", "randread", "--bs", "64k", "--qd", "4", "--block-size", "2m",
                     "--time", "0.5", "--verify", "--json")
        self.assertEqual(bench.returncode, 0, bench.stderr)
        self.assertEqual(json.loads(bench.stdout)["verify_errors"], 0)
        self.assertEqual(worker.stop(), 0)

    def test_a_wrong_configuration_is_named_with_its_line(self) -> None:
        conf, _ = self.write_conf("wrong", extra='colour = "red"\n')
        self.fails_with("wrong.toml:7", "worker", "--conf", str(conf), "--check")
        self.fails_with("No such file", "worker", "--conf", "/nowhere.toml", "--check")


if __name__ == "__main__":
    LEAP = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
