"""Which package a name meant when the mirrors were last asked: kept beside the kernels.

A name such as ``bookworm/rt-amd64`` means the newest of its kind, or an older one where the mirror
lacks that; so only the answer tells which kernel in the cache it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.kernel.cache import read_json_object, safe_file_name, write_atomically
from harness.kernel.catalog import KernelSpec, kernels_directory
from harness.kernel.package import Kernel, is_kernel, load_kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A kernel in the cache, and when it was the answer (seconds since the epoch)."""

    kernel: Kernel
    t_s: float


def read_answer(spec: KernelSpec, cache: Path) -> Answer | None:
    """What ``spec`` meant last; None where nobody asked or the kernel is not in the cache."""
    record = read_json_object(_path(spec, cache)) or {}
    name, t_s = record.get("directory"), record.get("t_s")
    if not isinstance(name, str) or not isinstance(t_s, (int, float)):
        return None
    directory = kernels_directory(cache, spec.arch) / name
    if not is_kernel(directory):
        return None
    return Answer(kernel=load_kernel(directory), t_s=float(t_s))


def write_answer(spec: KernelSpec, cache: Path, answer: Answer) -> None:
    """Keep an answer."""
    record = {"t_s": answer.t_s, "directory": answer.kernel.directory.name}
    write_atomically(_path(spec, cache), json.dumps(record) + "\n")


def _path(spec: KernelSpec, cache: Path) -> Path:
    name = safe_file_name(spec.name)
    return kernels_directory(cache, spec.arch) / ".answers" / name
