"""A Linux guest in QEMU, under emulation, driven by commands: `guest.run("nvme list")` returns what it printed.

The guest's console (kernel messages) goes to a file; commands go through a second serial port (guest/init answers).
Its network is QEMU's user network: it reaches this machine's 127.0.0.1 as 10.0.2.2, and this machine reaches the
guest's port 4420 at 127.0.0.1:`port`. Nothing else is connected to it.
"""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from leap_process import die_with_parent, free_port  # noqa: E402

BOOT_SECONDS = 60
COMMAND_SECONDS = 60
STATUS = re.compile(r"@@STATUS (\d+)$")
CONSOLE_LINES = 25


class GuestError(AssertionError):
    """A command failed, or the guest did; the message ends with what its kernel said last."""


class Guest:
    """One running guest. `seconds` is its whole life: QEMU is killed then, whatever it does."""

    def __init__(self, kernel: Path, initramfs: Path, console: Path, seconds: float, cpus: int = 1) -> None:
        self.console = console
        for last in (False, True):
            self.start(kernel, initramfs, seconds, cpus)
            if self.booted():
                return
            self.stop()
            # Once more, and only for this: an emulated boot is the one thing here that may fail by itself.
            if last:
                raise GuestError(self.with_console("the guest did not boot, twice"))
            print("the guest did not boot; trying once more", flush=True)

    def start(self, kernel: Path, initramfs: Path, seconds: float, cpus: int) -> None:
        self.port = free_port()
        (vmlinuz,) = kernel.glob("boot/vmlinuz-*")
        self.lines: queue.Queue[str | None] = queue.Queue()
        with self.console.with_suffix(".qemu").open("wb") as errors:
            self.process = subprocess.Popen(
                ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-m", "640", "-smp", str(cpus),
                 # QEMU 7.2 emulates cmpxchg16b wrongly, and Linux crashes of that; rdrand spares a wait for entropy.
                 "-cpu", "qemu64,-cx16,+rdrand", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                 "-serial", f"file:{self.console}", "-serial", "stdio",
                 "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:4420",
                 "-device", "virtio-net-pci,netdev=net,romfile=",
                 "-kernel", str(vmlinuz), "-initrd", str(initramfs), "-append", "console=ttyS0 panic=-1 quiet"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, preexec_fn=die_with_parent)
        self.timer = threading.Timer(seconds, self.process.kill)
        self.timer.daemon = True
        self.timer.start()
        self.reader = threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True)
        self.reader.start()

    @staticmethod
    def read(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.decode(errors="replace").rstrip("\r\n"))
        lines.put(None)

    def next_line(self, deadline: float) -> str | None:
        """None when there is none in time, or will never be."""
        try:
            return self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def booted(self) -> bool:
        deadline = time.monotonic() + BOOT_SECONDS
        while (line := self.next_line(deadline)) is not None:
            if line.endswith("@@READY"):
                return True
        return False

    def status_of(self, command: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Runs one line of shell in the guest: its exit status and what it printed."""
        assert "\n" not in command and self.process.stdin is not None
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise GuestError(self.with_console(f"the guest is gone before: {command}")) from error
        deadline = time.monotonic() + seconds
        printed: list[str] = []
        while (line := self.next_line(deadline)) is not None:
            if match := STATUS.search(line):
                return int(match[1]), "\n".join([*printed, line[: match.start()]]).strip()
            printed.append(line)
        what = "no end within its time" if self.process.poll() is None else "the guest ended"
        raise GuestError(self.with_console(f"{what}: {command}\n" + "\n".join(printed)))

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """As status_of(), for a command that has to succeed."""
        status, printed = self.status_of(command, seconds)
        if status != 0:
            _, kernel = self.status_of(f"dmesg | tail -n {CONSOLE_LINES}", seconds=5)
            raise GuestError(f"status {status}: {command}\n{printed}\n{kernel}")
        return printed

    def with_console(self, message: str) -> str:
        """`message`, followed by what the guest's kernel and QEMU said last."""
        parts = [message]
        for path in (self.console, self.console.with_suffix(".qemu")):
            if path.exists():
                parts += path.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
        return "\n".join(parts)

    def stop(self) -> None:
        """There is nothing in the guest to save: it is killed."""
        self.timer.cancel()
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    pass  # what a dead guest did not read any more
