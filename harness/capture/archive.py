"""Captures of one kernel in one archive: what they share is then stored once."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from harness.errors import RecordError

ENDING = ".tar.xz"
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 << 20}]


def pack(captures: Mapping[str, Path], archive: Path) -> None:
    """Writes an archive of capture directories by name, the same bytes for the same files.

    Captures that the archive has already and that are not given stay in it.

    Raises:
        RecordError: the old archive cannot be read.
    """
    files = {
        f"{name}/{path.relative_to(directory).as_posix()}": path.read_bytes()
        for name, directory in captures.items()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    if archive.is_file():
        kept = unpacked(archive)
        files |= {k: v for k, v in kept.items() if k.partition("/")[0] not in captures}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        # the same file of all captures side by side, so that they share their text
        for name in sorted(files, key=lambda name: (name.partition("/")[2], name)):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(files[name]))
    draft = archive.with_name(archive.name + ".draft")
    draft.write_bytes(lzma.compress(plain.getvalue(), filters=_FILTERS))
    os.replace(draft, archive)


def unpacked(archive: Path) -> dict[str, bytes]:
    """The files of an archive by name.

    Raises:
        RecordError: it is damaged.
    """
    files = {}
    try:
        plain = io.BytesIO(lzma.decompress(archive.read_bytes()))
        with tarfile.open(fileobj=plain, mode="r:") as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is not None:
                    files[member.name] = stream.read()
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError) as error:
        raise RecordError(f"{archive}: {error}", fix="take its captures again") from None
    return files
