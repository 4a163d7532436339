"""Custom kernels by name: the one in the cache, or a new one from Debian's source."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.errors import UsageError
from harness.kernel.apt import Runner, open_root, run_apt
from harness.kernel.build import build_kernel, find_built, gather_inputs
from harness.kernel.cache import Progress, cache_root
from harness.kernel.catalog import latest, list_cached
from harness.kernel.custom import CustomKernel
from harness.kernel.make import Make, run_make
from harness.kernel.package import Kernel, port_of
from harness.kernel.source_tree import cached_source, obtain_source
from harness.kernel.toolchain import Toolchain, find_toolchain


def obtain_custom(
    custom: CustomKernel,
    arch: str,
    *,
    stock_config: Callable[[], str],
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    host_root: Path = Path("/"),
    run: Runner = run_apt,
    make: Make = run_make,
    toolchain: Toolchain | None = None,
    newest: bool = False,
) -> Kernel:
    """The custom kernel for ``arch``, built unless the cache has one of the same recipe.

    ``newest`` asks the suite for its source of today and the host for its compiler, and builds
    again if either has changed; otherwise a kernel that was built from an earlier one serves.

    Raises:
        UsageError: the kernel is not made for ``arch``.
        MissingToolError: programs to build with are missing; says how to install them.
        FetchError (GoneError, NetworkError), VerificationError: the source cannot be had.
        BuildError, DiskFullError.
    """
    cache = cache_root(environment)
    inputs = gather_inputs(custom, arch, base_config=stock_config)
    if not newest and (built := find_built(inputs, cache)) is not None:
        return built
    tools = toolchain or find_toolchain(arch, environment=environment)
    source = None if newest else cached_source(custom.linux, cache)
    if source is None:
        root = open_root(
            custom.suite,
            # sources are of no architecture: any index that the archive has names them
            arch if port_of(arch).archived else "x86_64",
            cache=cache,
            environment=environment,
            host_root=host_root,
            run=run,
        )
        source = obtain_source(custom.linux, root, cache=cache, progress=progress)
    return build_kernel(
        inputs, source, progress=progress, environment=environment, make=make, toolchain=tools
    )


def find_custom(
    custom: CustomKernel, arch: str, *, environment: Mapping[str, str] = os.environ
) -> Kernel | None:
    """The custom kernel for ``arch`` if it is in the cache; nothing is fetched or built.

    A kernel on top of a stock configuration is known by its name alone, since to read the
    configuration would be to fetch it.
    """
    cache = cache_root(environment)
    if custom.base == "stock":
        package = f"linux-source-{custom.linux}"
        return latest(
            kernel
            for kernel in list_cached(cache, arch)
            if kernel.name == custom.name and kernel.package == package
        )
    try:
        inputs = gather_inputs(custom, arch, base_config=str)
    except UsageError:
        return None
    return find_built(inputs, cache)
