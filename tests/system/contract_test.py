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
import threading
import time
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
            self.assertLess(report["allocs_per_io"], 1e-4)  # none per I/O; a timer or a new peak may cost one
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

    def write_conf(self, name: str, extra: str = "", on_file: bool = False) -> tuple[Path, int]:
        """A worker on the target, or on a file of its own."""
        rpc, web = free_port(), free_port()
        device = (f'[worker.leap]\ndevices = ["file://{self.dir}/{name}.device?size=256MiB"]\n' if on_file else
                  f'[worker.spdk_disk]\nenabled = true\nhugepage = "64MB"\n[[worker.spdk_disk.targets]]\ntrtype = "tcp"\n'
                  f'traddr = "127.0.0.1"\ntrsvcid = {self.port}\nsubnqn = "{NQN}"\n')
        conf = self.dir / f"{name}.toml"
        conf.write_text(
            f'cluster_id = "test"\n[worker]\nhostname = "127.0.0.1"\nrpc_port = {rpc}\nweb_port = {web}\n'
            f'data_dir = ["[{"SSD" if on_file else "SPDK_DISK"}]{self.dir}/{name}"]\n{extra}{device}')
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
        # From a pipe: collected when nothing says how much will come, streamed when --capacity does.
        streamed = noise.randbytes(3_000_001)
        for block, capacity in (("8", ()), ("9", ("--capacity", "4m"))):
            with subprocess.Popen([LEAP, "block", "put", "--worker", address, "--id", block, *capacity], stdin=subprocess.PIPE) as put:
                for at in range(0, len(streamed), 100_000):
                    put.stdin.write(streamed[at : at + 100_000])
            self.assertEqual(put.returncode, 0)
            stored[block] = streamed
        too_much = leap("block", "put", "--worker", address, "--id", "10", "--capacity", "1m", data=streamed)
        self.assertEqual(too_much.returncode, 1)
        self.assertIn(b"exceeds", too_much.stderr)
        for number, expected in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
            for block, data in stored.items():
                got = leap("block", "get", "--worker", address, "--id", block)
                self.assertEqual(got.returncode, 0, got.stderr)
                self.assertEqual(hashlib.sha256(got.stdout).digest(), hashlib.sha256(data).digest(), f"block {block}")
            listed = leap("block", "ls", "--worker", address, "--json").stdout.decode().splitlines()
            self.assertEqual(sorted(str(json.loads(line)["id"]) for line in listed), sorted(stored))
            self.fails_with("block 3 not exists", "block", "get", "--worker", address, "--id", "3")
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

    def test_the_ready_line_comes_first_and_a_missing_master_is_said(self) -> None:
        conf, _ = self.write_conf("stdout", extra='log = { level = "info", log_dir = "stdout" }\n', on_file=True)
        formatted = leap("format", "--conf", str(conf))
        self.assertEqual(formatted.returncode, 0, formatted.stderr)
        loud, quiet = self.dir / "loud.log", self.dir / "quiet.log"
        # Server asserts that the first thing printed is the ready line.
        self.assertEqual(serve(loud, "worker", "--conf", str(conf)).stop(), 0)
        self.assertIn("not registering with a master", loud.read_text())
        self.assertEqual(serve(quiet, "--log-level", "error", "worker", "--conf", str(conf), "--standalone").stop(), 0)
        self.assertEqual(quiet.read_text(), "")

    def test_acknowledged_blocks_survive_a_sigkill_under_load(self) -> None:
        conf, rpc = self.write_conf("load", on_file=True)
        self.assertEqual(leap("format", "--conf", str(conf)).returncode, 0)
        address, command = f"127.0.0.1:{rpc}", ("worker", "--conf", str(conf), "--standalone")
        worker = serve(self.dir / "load.log", *command)
        acknowledged: dict[str, bytes] = {}
        attempted: dict[str, bytes] = {}
        enough, over = threading.Event(), threading.Event()

        def put_until_the_worker_is_gone() -> None:
            noise = random.Random(3)
            for number in range(10_000):
                # New blocks, and from the fifth on every second one written over.
                block = str(1 + (number // 2 if number % 2 and number > 8 else number))
                attempted[block] = noise.randbytes(2_000_001 + number)
                if leap("block", "put", "--worker", address, "--id", block, data=attempted[block]).returncode != 0:
                    break
                acknowledged[block] = attempted.pop(block)
                if number > 10:
                    enough.set()
            over.set()

        putting = threading.Thread(target=put_until_the_worker_is_gone)
        putting.start()
        self.assertTrue(enough.wait(60))
        time.sleep(0.01 * random.random())  # anywhere within a put: whatever it hits, the rest of the test is the same
        self.assertEqual(worker.stop(signal.SIGKILL), -signal.SIGKILL)
        putting.join()
        self.assertTrue(over.is_set() and len(attempted) == 1)
        worker = serve(self.dir / "load.log", *command)
        for block in {**acknowledged, **attempted}:
            got = leap("block", "get", "--worker", address, "--id", block)
            may_be = [versions[block] for versions in (acknowledged, attempted) if block in versions]
            if block not in acknowledged and got.returncode != 0:
                self.assertIn(f"block {block} not exists".encode(), got.stderr)
                continue
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertIn(hashlib.sha256(got.stdout).digest(), [hashlib.sha256(data).digest() for data in may_be], f"block {block}")
        self.assertEqual(worker.stop(), 0)

    def test_bench_spares_what_is_not_its_own(self) -> None:
        conf, rpc = self.write_conf("spared", on_file=True)
        self.assertEqual(leap("format", "--conf", str(conf)).returncode, 0)
        device = f"file://{self.dir}/spared.device"
        for load in (("randwrite",), ("randread", "--verify")):
            self.fails_with("superblock of a Leap worker (cluster 'test')", "bench", "io", "--device", device, "--time", "0.2", "--rw", *load)
        worker = serve(self.dir / "spared.log", "worker", "--conf", str(conf), "--standalone")
        address = f"127.0.0.1:{rpc}"
        self.assertEqual(leap("block", "put", "--worker", address, "--id", "77", data=b"mine").returncode, 0)
        self.fails_with("block 77 exists", "bench", "worker", "--worker", address, "--first-id", "76", "--rw", "read", "--qd", "2",
                        "--bs", "64k", "--block-size", "256k", "--time", "0.2")
        self.assertEqual(leap("block", "get", "--worker", address, "--id", "77").stdout, b"mine")
        self.assertEqual(len(leap("block", "ls", "--worker", address, "--json").stdout.splitlines()), 1)
        self.assertEqual(worker.stop(), 0)

    def test_benchmarks_follow_each_other_without_being_told_that_they_may(self) -> None:
        for load in (("randwrite", "4k"), ("randread", "4k", "--verify"), ("write", "128k"), ("randrw", "16k", "--verify"), ("randwrite", "1m"),
                     ("randread", "4k"), ("randwrite", "4k", "--verify")):
            done = leap("bench", "io", "--device", self.device, "--nsid", "1", "--time", "0.2", "--warmup", "0", "--json", "--rw", load[0],
                        "--bs", *load[1:])
            self.assertEqual(done.returncode, 0, (load, done.stderr))
            report = json.loads(done.stdout)
            self.assertEqual((report["errors"], report["verify_errors"]), (0, 0))
            self.assertEqual(report["laid_out"] > 0, "--verify" in load and load[0] != "randwrite")

    def test_demo_works_twice_in_one_directory_and_leaves_it_empty(self) -> None:
        tree, work = self.dir / "tree", self.dir / "demo"
        tree.mkdir()
        (tree / "file").write_bytes(random.Random(2).randbytes(3_000_000))
        for _ in range(2):
            done = leap("demo", str(tree), "--dir", str(work))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(b"1 files, 2.9 MiB stored", done.stdout)
            self.assertRegex(done.stdout, rb"SIGKILL came after \d+ acknowledged writes")
            self.assertEqual(list(work.iterdir()), [])

    def test_a_wrong_configuration_is_named_with_its_line(self) -> None:
        conf, _ = self.write_conf("wrong", extra='colour = "red"\n')
        self.fails_with("wrong.toml:7", "worker", "--conf", str(conf), "--check")
        self.fails_with("No such file", "worker", "--conf", "/nowhere.toml", "--check")


if __name__ == "__main__":
    LEAP = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
