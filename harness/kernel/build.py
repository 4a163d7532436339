"""Custom kernels: from a recipe of the catalogue to a kernel in the cache.

Kernels of one source and architecture share an object tree, which stays in the cache: an
interrupted build goes on where it was, and between two kernels only what their configurations
touch is compiled anew. The kernel itself is kept by the content of what it was made from, and
appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.kernel.bootimage import boot_image
from harness.kernel.cache import (
    Progress,
    cache_root,
    install_directory,
    locked,
    read_json_object,
    reporting_full_disk,
    safe_file_name,
    write_atomically,
)
from harness.kernel.catalog import kernels_directory, latest, list_cached
from harness.kernel.custom import CustomKernel
from harness.kernel.fragment import (
    FRAGMENTS_DIRECTORY,
    Request,
    fragment_paths,
    read_fragments,
    render_requests,
)
from harness.kernel.kconfig import parse_kconfig, read_kconfig
from harness.kernel.kconfig_source import read_tree
from harness.kernel.make import Counter, Failure, Make, count_objects, make_environment, run_make
from harness.kernel.module_build import MODULE_BUILD, collect_module_build
from harness.kernel.needs import check_guest
from harness.kernel.package import RECORD_NAME, Kernel, is_kernel, load_kernel, render_kernel
from harness.kernel.source_tree import SourceTree
from harness.kernel.survival import check_survival
from harness.kernel.toolchain import Toolchain, check_for_config, find_toolchain, host_has_header

BUILD_RECORD = "build.json"

_LAYOUT = 2
"""Raised whenever the same inputs would give another kernel: part of the cache key."""

_IMAGES = {
    "x86_64": ("bzImage", "arch/x86/boot/bzImage"),
    "i386": ("bzImage", "arch/x86/boot/bzImage"),
    "arm64": ("Image", "arch/arm64/boot/Image"),
    "m68k": ("vmlinux", "vmlinux"),
}
"""Target of make, and where it leaves the image."""

_STAMP = "mmscope-tree.json"
_LOG = "mmscope-build.log"
_NICE = "10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that a custom kernel is made of."""

    kernel: CustomKernel
    arch: str
    requests: tuple[Request, ...]
    fragments: Mapping[str, str]
    """File name → SHA-256."""
    base_config: str
    """The text that the requests go on top of; empty for allnoconfig."""

    @property
    def recipe_key(self) -> str:
        """A digest of the recipe: name, base and what is asked for, without its reasons."""
        asked = sorted((request.symbol, request.value) for request in self.requests)
        return _digest(
            [_LAYOUT, self.kernel.name, self.arch, self.kernel.linux, asked, self.base_config]
        )

    def key(self, source: SourceTree, toolchain: Toolchain) -> str:
        """A digest of everything that decides what the kernel is."""
        return _digest([self.recipe_key, source.sha256, toolchain.version])


def gather_inputs(
    custom: CustomKernel,
    arch: str,
    *,
    base_config: Callable[[], str],
    fragments: Path = FRAGMENTS_DIRECTORY,
) -> Inputs:
    """Read the recipe; ``base_config`` gives the stock configuration if one is wanted.

    Raises:
        UsageError: the kernel is not made for ``arch``.
        InfrastructureError: a fragment is missing or has a line that means nothing.
    """
    custom.check_arch(arch)
    paths = fragment_paths(custom.fragments, arch, *custom.own_fragments, fragments)
    local = Request(symbol="LOCALVERSION", value=f'"-{custom.name}"', where="its name")
    return Inputs(
        kernel=custom,
        arch=arch,
        requests=(*read_fragments(paths), local),
        fragments={path.name: _digest_file(path) for path in paths},
        base_config=base_config() if custom.base == "stock" else "",
    )


def find_built(inputs: Inputs, cache: Path) -> Kernel | None:
    """The newest kernel in the cache that was made by this recipe, of whatever source."""
    found = [
        kernel
        for kernel in list_cached(cache, inputs.arch)
        if (read_json_object(kernel.directory / BUILD_RECORD) or {}).get("recipe")
        == inputs.recipe_key
    ]
    return latest(found)


def build_kernel(
    inputs: Inputs,
    source: SourceTree,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    make: Make = run_make,
    toolchain: Toolchain | None = None,
    has_header: Callable[[str], bool] = host_has_header,
) -> Kernel:
    """The kernel of these inputs, compiled unless the cache has it.

    Raises:
        MissingToolError: a program or header is not installed.
        UsageError: a guest could not run on it; nothing is compiled.
        BuildError: a symbol did not survive, or the compiler refused.
        DiskFullError.
    """
    cache = cache_root(environment)
    tools = toolchain or find_toolchain(inputs.arch, environment=environment)
    key = inputs.key(source, tools)
    name = f"{source.package.removeprefix('linux-source-')}-{inputs.kernel.name}"
    directory = kernels_directory(cache, inputs.arch) / safe_file_name(
        f"{name}_{source.version}_{key[:12]}"
    )
    work = _Work(
        inputs=inputs,
        source=source,
        tools=tools,
        tree=cache / "builds" / inputs.arch / source.package,
        progress=progress,
        environment=environment,
        make=make,
    )

    def build(temporary: Path) -> None:
        with locked(work.tree, progress=progress), reporting_full_disk(work.tree):
            start_s = time.monotonic()
            work.open_tree()
            config = work.configure()
            check_for_config(config, has_header=has_header)
            files = work.compile()
            work.collect(temporary)
        record = {
            "recipe": inputs.recipe_key,
            "suite": inputs.kernel.suite,
            "source": source.file_name,
            "compiler": tools.version,
            "base": inputs.kernel.base,
            "fragments": dict(inputs.fragments),
            "compiled_files": files,
            "took_s": round(time.monotonic() - start_s, 1),
        }
        write_atomically(temporary / BUILD_RECORD, json.dumps(record, indent=2) + "\n")

    install_directory(directory, build, is_valid=is_kernel, progress=progress)
    return load_kernel(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One object tree and what is done in it."""

    inputs: Inputs
    source: SourceTree
    tools: Toolchain
    tree: Path
    progress: Progress
    environment: Mapping[str, str]
    make: Make

    @property
    def _log(self) -> Path:
        return self.tree / _LOG

    def open_tree(self) -> None:
        """Make the tree, or empty it where it is of another source or compiler."""
        stamp = {"source": self.source.sha256, "compiler": self.tools.version}
        if self.tree.exists() and read_json_object(self.tree / _STAMP) != stamp:
            shutil.rmtree(self.tree)
        self.tree.mkdir(parents=True, exist_ok=True)
        write_atomically(self.tree / _STAMP, json.dumps(stamp) + "\n")
        self._log.write_bytes(b"")

    def configure(self) -> dict[str, str]:
        """Make the .config, and hold it against what was asked for."""
        asked = render_requests(self.inputs.requests)
        self.progress(f"configuring {self.inputs.kernel.name} for {self.inputs.arch}")
        if self.inputs.kernel.base == "stock":
            config = _override(self.inputs.base_config, self.inputs.requests)
            write_atomically(self.tree / ".config", config)
            self._run("olddefconfig", {}, "configuring the kernel")
        else:
            wanted = self.tree / "mmscope.config"
            write_atomically(wanted, asked)
            self._run("allnoconfig", {"KCONFIG_ALLCONFIG": str(wanted)}, "configuring the kernel")
        config_values = read_kconfig(self.tree / ".config")
        what = f"{self.inputs.kernel.name} ({self.source.version}, {self.inputs.arch})"
        check_survival(
            self.inputs.requests,
            config_values,
            read_tree(self.source.directory, self.inputs.arch),
            what,
        )
        check_guest(config_values, self.inputs.arch, what)
        return config_values

    def compile(self) -> int:
        """Compile; returns how many object files lie in the tree, those of other kernels too."""
        before = count_objects(self.tree)
        about = _about(self.tree.parents[2], self.inputs)
        resumed = f"; of {before} files compiled before, what still fits is used" if before else ""
        self.progress(f"compiling {self.inputs.kernel.name}{resumed}")
        counter = Counter(say=self.progress, most=about)
        target, _ = _IMAGES[self.inputs.arch]
        self._run((target, "modules"), {}, "compiling the kernel", on_line=counter.line)
        return count_objects(self.tree)

    def collect(self, directory: Path) -> None:
        """Lay out the kernel in ``directory`` as a fetched one is."""
        self._run(
            "modules_install",
            {},
            "collecting the modules",
            extra=(
                f"INSTALL_MOD_PATH={directory / 'install'}",
                "INSTALL_MOD_STRIP=1",
                "DEPMOD=true",
            ),
        )
        release = (self.tree / "include/config/kernel.release").read_text(encoding="utf-8").strip()
        installed = directory / "install" / "lib" / "modules" / release
        for link in ("build", "source"):
            (installed / link).unlink(missing_ok=True)
        installed.rename(directory / "modules")
        shutil.rmtree(directory / "install")
        shutil.copyfile(self.tree / ".config", directory / "config")
        collect_module_build(self.tree, directory / MODULE_BUILD)
        _, image_path = _IMAGES[self.inputs.arch]
        content = (self.tree / image_path).read_bytes()
        image = boot_image(content, self.inputs.arch, f"{self.inputs.kernel.name}: {image_path}")
        path = directory / image.name
        path.write_bytes(image.content)
        kernel = Kernel(
            name=self.inputs.kernel.name,
            release=release,
            arch=self.inputs.arch,
            package=self.source.package,
            version=self.source.version,
            directory=directory,
            boot_image=path,
            modules_directory=directory / "modules",
            config_path=directory / "config",
            sha256={
                self.source.file_name: self.source.sha256,
                "config": _digest_file(directory / "config"),
                image.name: hashlib.sha256(image.content).hexdigest(),
            },
        )
        write_atomically(directory / RECORD_NAME, render_kernel(kernel))

    def _run(
        self,
        targets: str | tuple[str, ...],
        variables: Mapping[str, str],
        what: str,
        *,
        on_line: Callable[[str], None] | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        failure = Failure()

        def line(text: str) -> None:
            failure.line(text)
            if on_line is not None:
                on_line(text)

        argv = [
            *("nice", "-n", _NICE, "make", "-C", str(self.source.directory)),
            *(f"O={self.tree}", f"-j{os.cpu_count() or 1}", "LOCALVERSION="),
            *self.tools.make_variables,
            *extra,
            *((targets,) if isinstance(targets, str) else targets),
        ]
        status = self.make(
            argv,
            environment={**_environment(self.environment, self.source), **variables},
            log=self._log,
            on_line=line,
        )
        if status != 0:
            raise failure.error(f"{what} ({self.inputs.kernel.name})", self._log)


def _environment(environment: Mapping[str, str], source: SourceTree) -> dict[str, str]:
    """What make sees: nothing of ours that would change the kernel, nothing of the host in it."""
    when = datetime.fromtimestamp(source.timestamp_s, UTC)
    return make_environment(environment) | {
        "KBUILD_BUILD_USER": "mmscope",
        "KBUILD_BUILD_HOST": "mmscope",
        "KBUILD_BUILD_VERSION": "1",
        "KBUILD_BUILD_TIMESTAMP": when.strftime("%a %b %d %H:%M:%S UTC %Y"),
    }


def _override(base: str, requests: tuple[Request, ...]) -> str:
    """``base`` with the requests in place of what it says of the same symbols."""
    symbols = {f"CONFIG_{request.symbol}" for request in requests}
    kept = [
        line
        for line in base.splitlines()
        if not symbols & parse_kconfig(line, "the stock configuration").keys()
    ]
    return "\n".join(kept) + "\n" + render_requests(requests)


def _about(cache: Path, inputs: Inputs) -> int | None:
    """How many files the last builds of the like had: of this kernel, else of any other."""
    counts: dict[bool, int] = {}
    for kernel in list_cached(cache, inputs.arch):
        record = read_json_object(kernel.directory / BUILD_RECORD) or {}
        files = record.get("compiled_files")
        if isinstance(files, int) and record.get("base") == inputs.kernel.base:
            counts[kernel.name == inputs.kernel.name] = files
    return counts.get(True, counts.get(False))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
