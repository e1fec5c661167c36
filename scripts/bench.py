#!/usr/bin/env python3
"""The figures of `make bench`: the NVMe/TCP host against our own target in memory, one core each, on this machine.

usage: bench.py [--build-dir build/release] [--time SECONDS] [--jobs N]

Starts `leap target`, runs `leap bench io` for each workload below and prints one Markdown table with the machine, the
commit and the command that gave the figures; the raw JSON goes to <build-dir>/bench.json. Then runs the
micro-benchmarks of bench/. Exit status 1 when a run had I/O errors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NQN = "nqn.2024-01.io.leap:bench"
READY_SECONDS = 10
IDLE_SECONDS = 5
# (pattern, block size, queue depth): small blocks for the cost per I/O, large ones for the cost per byte.
WORKLOADS = [(rw, "4k", qd) for rw in ("randread", "randwrite") for qd in (1, 32, 128)] + [
    ("read", "128k", 32),
    ("write", "128k", 32),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(target: subprocess.Popen[str]) -> None:
    assert target.stdout is not None
    readable, _, _ = select.select([target.stdout], [], [], READY_SECONDS)
    line = target.stdout.readline() if readable else ""
    if not line.startswith("ready"):
        raise SystemExit(f"bench: leap target did not print its ready line within {READY_SECONDS} s: {line.strip()!r}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_workload(leap: Path, port: int, rw: str, bs: str, qd: int, seconds: int, core: int) -> dict:
    device = f"trtype:TCP adrfam:IPv4 traddr:127.0.0.1 trsvcid:{port} subnqn:{NQN}"
    command = [str(leap), "bench", "io", "--device", device, "--rw", rw, "--bs", bs, "--qd", str(qd),
               "--time", str(seconds), "--cores", str(core), "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench: exit status {done.returncode} from: {' '.join(command)}")
    return {**json.loads(done.stdout), "bs": bs}  # as asked for: the report has it in bytes


def row(result: dict) -> str:
    latency = result["lat_us"]
    allocations = result["allocs_per_io"]  # null: this build does not count them
    cells = [
        result["rw"], result["bs"], str(result["qd"]), f"{result['iops']:,.0f}", f"{result['mib_per_s']:,.1f}",
        *(f"{latency[key]:.1f}" for key in ("avg", "p50", "p99", "p999", "max")),
        f"{result['cpu_seconds']:.2f}", f"{result['syscalls_per_io']:.3f}", "-" if allocations is None else f"{allocations:.3f}",
        str(result["errors"]),
    ]
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=False).stdout.strip()
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release()}, commit {commit or 'unknown'}"


def host_against_target(leap: Path, seconds: int) -> list[dict]:
    cores = sorted(os.sched_getaffinity(0))
    port = free_port()
    target = subprocess.Popen(
        [str(leap), "target", "--listen", f"127.0.0.1:{port}", "--nqn", NQN, "--namespace", "mem:?size=512MiB",
         "--cores", str(cores[0])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    try:
        wait_until_ready(target)
        print(f"{machine()}\nmake bench ({seconds} s each; target on core {cores[0]}, host on core {cores[-1]})\n")
        print("| rw | bs | qd | IOPS | MiB/s | avg us | p50 | p99 | p99.9 | max | CPU s | syscalls/IO | allocs/IO | errors |")
        print("|---|---|---:|" + "---:|" * 11, flush=True)
        results = []
        for rw, bs, qd in WORKLOADS:
            results.append(run_workload(leap, port, rw, bs, qd, seconds, cores[-1]))
            print(row(results[-1]), flush=True)
        before = cpu_seconds(target.pid)
        time.sleep(IDLE_SECONDS)
        print(f"\nidle target: {100 * (cpu_seconds(target.pid) - before) / IDLE_SECONDS:.1f} % of a core")
        return results
    finally:
        target.terminate()
        try:
            target.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            target.kill()


def micro_benchmarks(build_dir: Path, jobs: int) -> None:
    subprocess.run(["cmake", "--build", str(build_dir), "--target", "bench/all", "--parallel", str(jobs)], check=True)
    for program in sorted((build_dir / "bench").glob("*_bench")):
        print(f"\n{program.name}", flush=True)
        subprocess.run([str(program)], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="measure the NVMe/TCP host against our own target")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build" / "release")
    parser.add_argument("--time", type=int, default=5, help="seconds per workload")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    results = host_against_target(options.build_dir / "leap", options.time)
    report = options.build_dir / "bench.json"
    report.write_text(json.dumps(results, indent=1) + "\n")
    print(f"raw figures: {report}")
    micro_benchmarks(options.build_dir, options.jobs)
    return 1 if any(result["errors"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
