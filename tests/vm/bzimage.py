"""An x86_64 kernel that unpacks and randomises itself: the package's own vmlinuz.

The cache keeps only the vmlinux inside, which QEMU enters through PVH: faster, but too late for
KASLR, which is the unpacker's work. Fetched once, kept beside the kernel.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from harness.kernel.apt import open_root
from harness.kernel.bootimage import boot_image
from harness.kernel.cache import cache_root
from harness.kernel.catalog import known_suites, parse_spec
from harness.kernel.fetch import kernel_debs
from harness.kernel.package import Kernel
from harness.kernel.sources import read_host
from harness.kernel.unpack import unpack_deb
from harness.record.rundir import write_atomic

_NAME = "vmlinuz"


def bzimage(kernel: Kernel) -> Path:
    """The vmlinuz of this very kernel."""
    kept = kernel.directory / _NAME
    if not kept.is_file():
        data = _fetch(kernel)
        image = boot_image(data, kernel.arch, _NAME)
        assert image.content == kernel.boot_image.read_bytes(), (
            f"the mirror has moved on from {kernel.package} {kernel.version}: fetch it again"
        )
        write_atomic(kept, data)
    return kept


def _fetch(kernel: Kernel) -> bytes:
    cache = cache_root()
    suite = read_host(Path("/")).suite
    spec = parse_spec(kernel.name, kernel.arch, host_suite=suite, suites=known_suites(), cached=[])
    root = open_root(spec.suite, kernel.arch, cache=cache)
    root.refresh(lambda _: None)
    debs = kernel_debs(spec, root)

    def place(path: PurePosixPath) -> PurePosixPath | None:
        return PurePosixPath(_NAME) if path.name.partition("-")[0] == _NAME else None

    with tempfile.TemporaryDirectory() as scratch:
        for deb in root.download(debs, lambda _: None):
            unpack_deb(deb, Path(scratch), place)
        root.discard(debs)
        return (Path(scratch) / _NAME).read_bytes()
