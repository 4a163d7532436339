"""From a kernel's name to a kernel in the cache.

The answer to "which package is it" is kept for a day, and longer when the mirrors give none, so a
second boot of the same kernel needs neither network nor apt.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from harness.errors import (
    BuildError,
    FetchError,
    GoneError,
    NetworkError,
    UsageError,
    VerificationError,
)
from harness.kernel.answers import Answer, read_answer, write_answer
from harness.kernel.apt import FRESH_S, AptRoot, Deb, Runner, open_root, run_apt
from harness.kernel.bootimage import boot_image
from harness.kernel.cache import (
    Progress,
    cache_root,
    install_directory,
    safe_file_name,
    write_atomically,
)
from harness.kernel.catalog import (
    KernelSpec,
    find_cached,
    kernels_directory,
    known_suites,
    list_cached,
    parse_spec,
    releases_like,
)
from harness.kernel.custom import known_custom
from harness.kernel.package import (
    RECORD_NAME,
    Kernel,
    debian_arch,
    is_kernel,
    load_kernel,
    port_of,
    render_kernel,
)
from harness.kernel.sources import read_host
from harness.kernel.unpack import unpack_deb
from harness.kernel.zoo import obtain_custom

_PART = re.compile(r"linux-(?:image|binary|modules|base)-\d+\.\d\S*")
"""The packages a kernel consists of; its other dependencies serve the installation only. They are
named after its release, which a flavour such as ``686-pae`` does not look like."""

_ASK_AGAIN_S = 1800.0
"""How long an older answer serves after no mirror gave a newer one."""

_MODULE_TREE = ("lib", "modules")
_BESIDE_MODULES = frozenset({"vmlinuz", "config"})
"""Files that the split packages (7.x) keep in the module tree instead of /boot."""


def obtain(
    spec: str | None,
    arch: str,
    *,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    host_root: Path = Path("/"),
    run: Runner = run_apt,
    clock: Callable[[], float] = time.time,
    newest: bool = False,
) -> Kernel:
    """The kernel that ``spec`` names (see kernel-configs/README.md), fetched or built if need be.

    ``newest`` builds a custom kernel again where its suite has a newer source by now.

    Raises:
        UsageError: unknown kernel or architecture.
        NetworkError: no mirror answers and the cache has no earlier answer.
        VerificationError: a signature or digest is wrong.
        FetchError: the suite or the package does not exist.
        MissingToolError: apt, dpkg-deb or the keyring is not installed.
        DiskFullError, BuildError.
    """
    debian_arch(arch)
    cache = cache_root(environment)
    custom = known_custom(environment).get(spec or "")
    if custom is not None:
        return obtain_custom(
            custom,
            arch,
            stock_config=lambda: _config_of(custom.suite, arch, progress, environment, host_root),
            progress=progress,
            environment=environment,
            host_root=host_root,
            run=run,
            newest=newest,
        )
    if spec is not None and (kernel := find_cached(cache, spec, arch)) is not None:
        return kernel
    if not port_of(arch).archived:
        made = [name for name, kernel in known_custom(environment).items() if arch in kernel.arches]
        raise UsageError(
            f"Debian's archive has no kernels for {arch}",
            fix=f"name a kernel that is built from source: --kernel {made[0]}" if made else None,
        )
    wanted = _parse(spec, arch, cache, environment, host_root)
    known = read_answer(wanted, cache)
    if known is not None and 0 <= clock() - known.t_s < FRESH_S:
        return replace(known.kernel, name=wanted.name)
    try:
        root = open_root(
            wanted.suite,
            arch,
            cache=cache,
            environment=environment,
            host_root=host_root,
            run=run,
        )
        kernel = _fetch(wanted, root, cache, progress)
        answered_s = clock()
    except FetchError as error:
        if known is None or isinstance(error, VerificationError):
            raise
        kernel = known.kernel
        progress(f"note: {error.message}; using the cached {kernel.release} ({kernel.version})")
        answered_s = clock() - FRESH_S + _ASK_AGAIN_S
    write_answer(wanted, cache, Answer(kernel=kernel, t_s=answered_s))
    return replace(kernel, name=wanted.name)


def _config_of(
    suite: str,
    arch: str,
    progress: Progress,
    environment: Mapping[str, str],
    host_root: Path,
) -> str:
    """The configuration of a suite's generic kernel."""
    kernel = obtain(suite, arch, progress=progress, environment=environment, host_root=host_root)
    return kernel.config_path.read_text(encoding="utf-8")


def _parse(
    spec: str | None, arch: str, cache: Path, environment: Mapping[str, str], host_root: Path
) -> KernelSpec:
    suites = known_suites()
    cached = [kernel.release for kernel in list_cached(cache, arch)]
    host_suite = read_host(host_root).suite
    try:
        return parse_spec(spec, arch, host_suite=host_suite, suites=suites, cached=cached)
    except UsageError as error:
        recipes = known_custom(environment).values()
        made = [custom.name for custom in recipes if arch in custom.arches]
        if "suites" in error.details:
            error.details["custom kernels"] = ", ".join(made) or "none"
        raise


def _fetch(spec: KernelSpec, root: AptRoot, cache: Path, progress: Progress) -> Kernel:
    root.refresh(progress)
    debs = kernel_debs(spec, root)
    try:
        return _install(spec, root, debs, cache, progress)
    except (NetworkError, VerificationError):
        raise
    except FetchError:
        # The pool moves on while our lists are a day old: look again, once.
        root.refresh(progress, max_age_s=0)
        debs = kernel_debs(spec, root)
        try:
            return _install(spec, root, debs, cache, progress)
        except GoneError as error:
            return _install_older(spec, root, debs[0], error, cache, progress)


def _install_older(
    spec: KernelSpec, root: AptRoot, gone: Deb, error: GoneError, cache: Path, progress: Progress
) -> Kernel:
    """The newest release like the one that the mirror lacks of which it has the files.

    Raises:
        GoneError: one release was asked for, or the mirror has the files of none.
    """
    release = _release_of(gone)
    others = releases_like(release, _flavours(root))
    error.details["other releases"] = ", ".join(others) or "none"
    if gone.package == spec.package:
        if others:
            error.fix = (
                f"name another, such as {spec.suite}/{others[0]}, or older ones; "
                f"{spec.suite}/FLAVOUR takes the newest that can be had"
            )
        raise error
    progress(f"note: {error.message} ({release}): looking for an older release")
    for other in others:
        older = replace(spec, flavour=other)
        try:
            kernel = _install(older, root, kernel_debs(older, root), cache, progress)
        except (NetworkError, VerificationError):
            raise
        except FetchError:
            continue
        progress(f"note: {spec.name} is {release}, which cannot be had; using {kernel.release}")
        return kernel
    raise error


def kernel_debs(spec: KernelSpec, root: AptRoot) -> list[Deb]:
    """The packages that make up the kernel, the image package first.

    Raises:
        UsageError: the suite has no such flavour; says which there are.
        FetchError: a part that the image package depends on is not in the suite.
    """
    found = root.show([spec.package]).get(spec.package)
    if found is None:
        flavours = _flavours(root)
        raise UsageError(
            f"{spec.suite} has no kernel {spec.flavour!r} for {spec.arch}",
            details={"it has": ", ".join(flavours) or "none"},
            fix=f"name one of these after {spec.suite}/" if flavours else "name another suite",
        )
    parts: dict[str, Deb] = {}
    pending = [found]
    while pending:
        deb = pending.pop(0)
        if _PART.fullmatch(deb.package):
            parts[deb.package] = deb
        names = [name for name in _dependencies(deb.depends) if _PART.fullmatch(name)]
        names = [name for name in dict.fromkeys(names) if name not in parts]
        shown = root.show(names)
        if absent := [name for name in names if name not in shown]:
            raise FetchError(
                f"{spec.suite} lacks {', '.join(absent)}, which {deb.package} depends on",
                fix="the mirror is between two states: try again later",
            )
        pending += [shown[name] for name in names]
    if not parts:
        raise FetchError(f"{spec.package} {found.version} depends on no kernel image")
    return list(parts.values())


def _flavours(root: AptRoot) -> list[str]:
    prefix = "linux-image-"
    names = [name.removeprefix(prefix) for name in root.names(prefix)]
    return [name for name in names if not name.endswith(("-dbg", "-unsigned"))]


def _release_of(image: Deb) -> str:
    """The release that an image package is named after."""
    return image.package.removeprefix("linux-image-")


def _dependencies(depends: str) -> list[str]:
    """Package names of a Depends field; of alternatives, the first."""
    return [
        re.split(r"[\s:(|]", dependency.strip(), maxsplit=1)[0] for dependency in depends.split(",")
    ]


def _install(
    spec: KernelSpec, root: AptRoot, debs: Sequence[Deb], cache: Path, progress: Progress
) -> Kernel:
    image = debs[0]
    directory = kernels_directory(cache, spec.arch) / safe_file_name(
        f"{_release_of(image)}_{image.version}"
    )

    def build(temporary: Path) -> None:
        paths = root.download(debs, progress)
        progress(f"unpacking {image.package} {image.version}")
        digests = {deb.file_name: deb.sha256 for deb in debs}
        unpack_kernel(
            paths,
            temporary,
            name=spec.name,
            arch=spec.arch,
            package=image.package,
            version=image.version,
            sha256=digests,
        )
        root.discard(debs)

    install_directory(directory, build, is_valid=is_kernel, progress=progress)
    return load_kernel(directory)


def unpack_kernel(
    debs: Sequence[Path],
    directory: Path,
    *,
    name: str,
    arch: str,
    package: str,
    version: str,
    sha256: Mapping[str, str],
) -> None:
    """Lay out a kernel in ``directory``: boot image, config, modules, record.

    Raises:
        BuildError: the packages do not contain one whole kernel.
    """
    releases: set[str] = set()

    def place(path: PurePosixPath) -> PurePosixPath | None:
        parts = path.parts[1:] if path.parts[:1] == ("usr",) else path.parts
        if parts[:1] == ("boot",) and len(parts) == 2:
            stem = parts[1].partition("-")[0]
            return PurePosixPath(stem) if stem in _BESIDE_MODULES else None
        if parts[:2] == _MODULE_TREE and len(parts) > 3:
            releases.add(parts[2])
            if len(parts) == 4 and parts[3] in _BESIDE_MODULES:
                return PurePosixPath(parts[3])
            return None if parts[3] == "dtb" else PurePosixPath("modules", *parts[3:])
        return None

    for deb in debs:
        unpack_deb(deb, directory, place)
    if len(releases) != 1:
        raise BuildError(
            f"{package} {version}: expected the modules of one release, "
            f"found {', '.join(sorted(releases)) or 'none'}"
        )
    vmlinuz = directory / "vmlinuz"
    for needed in (vmlinuz, directory / "config", directory / "modules" / "modules.builtin"):
        if not needed.is_file():
            raise BuildError(f"{package} {version}: the packages contain no {needed.name}")
    image = boot_image(vmlinuz.read_bytes(), arch, f"{package}: vmlinuz")
    image_path = directory / image.name
    image_path.write_bytes(image.content)
    vmlinuz.unlink()
    kernel = Kernel(
        name=name,
        release=releases.pop(),
        arch=arch,
        package=package,
        version=version,
        directory=directory,
        boot_image=image_path,
        modules_directory=directory / "modules",
        config_path=directory / "config",
        sha256=sha256,
    )
    write_atomically(directory / RECORD_NAME, render_kernel(kernel))
