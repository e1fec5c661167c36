"""The guests' root file system: a cpio archive (newc) in memory, written without cpio, kmod or root.

Uncompressed on purpose: under emulation, decompressing costs more than copying.
"""

from __future__ import annotations

import lzma
import os
import re
import stat
import subprocess
from pathlib import Path

from packages import Packages, Unavailable

MODULES = ("virtio_pci", "virtio_net", "nvme_tcp", "nvmet_tcp", "brd", "crc32c_generic")
PROGRAMS = ("sbin/nvme", "sbin/mkfs.ext4", "sbin/e2fsck")
FOLDERS = ("bin", "dev", "etc", "lib", "lib64", "mnt", "modules", "proc", "run", "sys", "tmp")
MODULE_FILE = re.compile(r"(?P<name>.+)\.ko(?P<xz>\.xz)?")
LIBRARY = re.compile(r"(?P<name>\S+) => (?P<path>/\S+|not found)|^\s*(?P<loader>/\S*/ld-\S+) \(", re.MULTILINE)
ALIGNMENT = 4


class Archive:
    """Files, links and folders by their path in the guest."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[int, bytes]] = {}

    def folder(self, path: str) -> None:
        while path and path not in self.entries:
            self.entries[path] = (stat.S_IFDIR | 0o755, b"")
            path = os.path.dirname(path)

    def file(self, path: str, data: bytes, mode: int = 0o755) -> None:
        self.folder(os.path.dirname(path))
        self.entries[path] = (stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        self.entries[path] = (stat.S_IFLNK | 0o777, target.encode())

    def write(self, out: Path) -> None:
        with out.open("wb") as archive:
            # Sorted: a folder comes before what it holds.
            for number, path in enumerate([*sorted(self.entries), "TRAILER!!!"], start=1):
                mode, data = self.entries.get(path, (0, b""))
                name = path.encode() + b"\0"
                fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
                header = b"070701" + b"".join(b"%08X" % field for field in fields) + name
                for part in (header, data):
                    archive.write(part + bytes(-len(part) % ALIGNMENT))


class Modules:
    """The modules of an unpacked kernel package, by name."""

    def __init__(self, kernel: Path) -> None:
        folders = [*kernel.glob("lib/modules/*"), *kernel.glob("usr/lib/modules/*")]
        if not folders:
            raise Unavailable(f"{kernel} holds no modules")
        built_in = (folders[0] / "modules.builtin").read_text().split()
        self.built_in = {self.plain(Path(path).stem) for path in built_in}
        self.files: dict[str, Path] = {}
        for path in folders[0].rglob("*.ko*"):
            if match := MODULE_FILE.fullmatch(path.name):
                self.files[self.plain(match["name"])] = path

    @staticmethod
    def plain(name: str) -> str:
        return name.replace("-", "_")

    def read(self, name: str) -> bytes:
        if name not in self.files:
            raise Unavailable(f"the kernel has no module {name}")
        data = self.files[name].read_bytes()
        return lzma.decompress(data) if self.files[name].suffix == ".xz" else data

    def add(self, archive: Archive, name: str, order: list[str]) -> None:
        """Adds a module and what it needs; appends their names to `order`, in the order to load them."""
        name = self.plain(name)
        if name in self.built_in or name in order:
            return
        data = self.read(name)
        needs = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in needs[1].decode().split(",") if needs and needs[1] else []:
            self.add(archive, other, order)
        archive.file(f"modules/{name}.ko", data, 0o644)
        order.append(name)


def add_program(archive: Archive, program: str, tools: list[Path]) -> None:
    """Adds a dynamically linked program of the unpacked `tools` with the libraries that it loads."""
    found = [path for tool in tools for path in (tool / program, tool / "usr" / program) if path.is_file()]
    if not found:
        raise Unavailable(f"the packages hold no {program}")
    paths = [str(folder) for tool in tools for folder in tool.glob("**/x86_64-linux-gnu")]
    libraries = subprocess.run(["ldd", str(found[0])], env={**os.environ, "LD_LIBRARY_PATH": ":".join(paths)},
                               stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    archive.file(f"bin/{Path(program).name}", found[0].read_bytes())
    for library in LIBRARY.finditer(libraries.stdout):
        if library["path"] == "not found":
            raise Unavailable(f"{program} needs {library['name']}, which is not installed")
        path = library["loader"] or library["path"]
        where = "lib64" if library["loader"] else "lib/x86_64-linux-gnu"
        archive.file(f"{where}/{Path(path).name}", Path(path).read_bytes())


def build(out: Path, packages: Packages, programs: list[Path]) -> None:
    """Writes the archive that both guests boot from: busybox, modules, tools, the scripts of guest/ and `programs`."""
    archive = Archive()
    for folder in FOLDERS:
        archive.folder(folder)
    applets = subprocess.run([str(packages.busybox), "--list"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    archive.file("bin/busybox", packages.busybox.read_bytes())
    for applet in applets.stdout.split():
        if applet != "busybox":
            archive.link(f"bin/{applet}", "busybox")
    modules = Modules(packages.kernel)
    for name in MODULES:
        order: list[str] = []
        modules.add(archive, name, order)
        archive.file(f"modules/{name}.order", "\n".join(order).encode() + b"\n", 0o644)
    for program in PROGRAMS:
        add_program(archive, program, packages.tools)
    for path in programs:
        archive.file(f"bin/{path.name}", path.read_bytes())
    scripts = Path(__file__).resolve().parent / "guest"
    archive.file("init", (scripts / "init").read_bytes())
    archive.file("lib/functions.sh", (scripts / "functions.sh").read_bytes())
    archive.write(out)
