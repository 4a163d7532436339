"""A private apt root: one suite, one architecture, the host's mirrors, nothing installed.

apt does the resolving, the downloading and the verifying; it sees an empty dpkg status, so what
it resolves is the whole closure. Nothing of the host's own apt state is read or written, and no
root is needed. The host's ``apt.conf`` (proxies, TLS, credentials) stays in force; hooks in it
are cleared, since they would act on the host.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import (
    FetchError,
    InfrastructureError,
    MissingToolError,
    NetworkError,
    StaleIndexError,
    VerificationError,
)
from harness.kernel.cache import (
    Progress,
    locked,
    read_json_object,
    reporting_full_disk,
    write_atomically,
)
from harness.kernel.failure import classify
from harness.kernel.package import debian_arch
from harness.kernel.sources import Source, find_keyring, read_host, render_sources, select_sources
from harness.mortal import mortal

Runner = Callable[[Sequence[str], Path, float], "AptResult"]
"""(argv, working directory, limit in seconds) → result."""

FRESH_S = 86400.0
"""Package lists younger than this are used as they are."""

_QUERY_LIMIT_S = 120.0
_UPDATE_LIMIT_S = 900.0
_DOWNLOAD_LIMIT_S = 3600.0

_CONFIGURATION = """\
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
APT::Update::Error-Mode "any";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Check-Valid-Until "true";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
#clear Acquire::Languages;
Acquire::Languages "none";
#clear Acquire::IndexTargets;
Acquire::IndexTargets {{ deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
}}; }};
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Log "{root}/log";
Dir::Etc::sourcelist "{root}/mmscope.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AptResult:
    """What a run of apt left."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """One binary package as the signed index describes it."""

    package: str
    version: str
    file_name: str
    size_bytes: int
    sha256: str
    depends: str


def run_apt(argv: Sequence[str], cwd: Path, limit_s: float) -> AptResult:
    """Run apt-get or apt-cache in the C locale, within ``limit_s`` seconds.

    Raises:
        MissingToolError: apt is not on this host.
        NetworkError: the limit passed; apt gives up on silent mirrors long before.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            mortal(argv),
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except FileNotFoundError:
        raise MissingToolError(
            f"{argv[0]} is not installed; kernels are fetched and verified with Debian's apt",
            fix="run on Debian or a derivative, or install its apt and debian-archive-keyring",
        ) from None
    except subprocess.TimeoutExpired:
        raise NetworkError(
            f"{argv[0]} was not done after {limit_s:g} s",
            details={"argv": " ".join(argv)},
            fix="check the network and apt's proxy, then try again: what came is kept",
        ) from None
    return AptResult(status=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class AptRoot:
    """The private root for one suite and architecture, below ``directory``."""

    directory: Path
    suite: str
    arch: str
    sources: tuple[Source, ...]
    keyring: Path
    run: Runner = run_apt
    clock: Callable[[], float] = time.time

    @property
    def _stamp_path(self) -> Path:
        return self.directory / "updated.json"

    def refresh(self, progress: Progress, *, max_age_s: float = FRESH_S) -> None:
        """Bring the package lists up to date unless they are younger than ``max_age_s``.

        Updates and security fixes are left out, with a note, when only they cannot be had or
        their index is not the signed one (of which nothing is then used).

        Raises:
            NetworkError, VerificationError, FetchError, DiskFullError, MissingToolError.
        """
        with locked(self.directory, progress=progress), reporting_full_disk(self.directory):
            wanted = self._render(self.sources)
            stamp = read_json_object(self._stamp_path) or {}
            age_s = self.clock() - _number(stamp.get("t_s"))
            self._write_configuration()
            have_lists = any((self.directory / "lists").glob("*_Packages*"))
            if have_lists and stamp.get("wanted") == _digest(wanted) and 0 <= age_s < max_age_s:
                return
            progress(f"reading the package lists of {self.suite} ({debian_arch(self.arch)})")
            try:
                self._update(self.sources)
            except FetchError as error:
                if isinstance(error, VerificationError) and not isinstance(error, StaleIndexError):
                    raise  # Never to pass for an outage.
                required = tuple(source for source in self.sources if source.required)
                if required == self.sources:
                    raise
                self._update(required)
                progress(f"note: {self.suite} without updates or security: {error.message}")
            record = {"t_s": self.clock(), "wanted": _digest(wanted)}
            write_atomically(self._stamp_path, json.dumps(record) + "\n")

    def show(self, names: Iterable[str]) -> dict[str, Deb]:
        """The candidate of each of ``names`` (``package`` or ``package=version``) that exists.

        Raises:
            FetchError: the lists cannot be read.
        """
        wanted = list(names)
        if not wanted:
            return {}
        result = self._apt_cache("show", "--no-all-versions", "--", *wanted)
        debs = (_parse_deb(stanza) for stanza in _stanzas(result.stdout))
        return {deb.package: deb for deb in debs}

    def names(self, prefix: str) -> list[str]:
        """Every package of the suite whose name starts with ``prefix``, sorted."""
        result = self._apt_cache("pkgnames", "--", prefix)
        return sorted(result.stdout.split())

    def resolve(self, packages: Sequence[str]) -> list[Deb]:
        """The closure of ``packages`` in an empty system, in the order of installation.

        Raises:
            FetchError: a package does not exist or the dependencies cannot be met.
        """
        what = f"resolving {' '.join(packages)}"
        argv = [*self._argv("apt-get"), "-q", "--simulate", "install", "--", *packages]
        result = self._run(argv, self.directory, _QUERY_LIMIT_S, what)
        picked = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", result.stdout, re.MULTILINE)
        versions = {name.partition(":")[0]: version for name, version in picked}
        shown = self.show(f"{name}={version}" for name, version in versions.items())
        absent = sorted(versions.keys() - shown.keys())
        if absent or not versions:
            raise FetchError(f"{what}: apt does not describe {', '.join(absent) or 'anything'}")
        return [shown[name] for name in versions]

    def download(self, debs: Sequence[Deb], progress: Progress) -> list[Path]:
        """Fetch what is not here yet; every file's digest is that of the signed index.

        Raises:
            VerificationError: a file is not what the index says (it is removed).
            NetworkError, FetchError, DiskFullError.
        """
        archives = self.directory / "archives"
        with locked(self.directory, progress=progress), reporting_full_disk(archives):
            missing = [deb for deb in debs if not _is_verified(archives / deb.file_name, deb)]
            if missing:
                size_mb = sum(deb.size_bytes for deb in missing) / 1e6
                what = missing[0].package if len(missing) == 1 else f"{len(missing)} packages"
                progress(f"downloading {what} ({size_mb:.1f} MB)")
                wanted = [f"{deb.package}={deb.version}" for deb in missing]
                argv = [*self._argv("apt-get"), "-q", "download", "--", *wanted]
                self._run(argv, archives, _DOWNLOAD_LIMIT_S, f"downloading {what}")
            for deb in missing:
                _verify(archives / deb.file_name, deb)
        return [archives / deb.file_name for deb in debs]

    def discard(self, debs: Iterable[Deb]) -> None:
        """Remove downloaded files that have been unpacked."""
        for deb in debs:
            (self.directory / "archives" / deb.file_name).unlink(missing_ok=True)

    def _argv(self, program: str) -> list[str]:
        return [program, "-c", str(self.directory / "apt.conf")]

    def _apt_cache(self, *words: str) -> AptResult:
        result = self.run([*self._argv("apt-cache"), *words], self.directory, _QUERY_LIMIT_S)
        if result.status != 0 and "No packages found" not in result.stderr:
            raise self._fault(f"reading the package lists of {self.suite}", result)
        return result

    def _run(self, argv: Sequence[str], cwd: Path, limit_s: float, what: str) -> AptResult:
        result = self.run(argv, cwd, limit_s)
        if result.status != 0:
            raise self._fault(what, result)
        return result

    def _fault(self, what: str, result: AptResult) -> Exception:
        output = f"{result.stdout}\n{result.stderr}"
        return classify(what, output, suite=self.suite, cache=self.directory)

    def _update(self, sources: tuple[Source, ...]) -> None:
        text = self._render(sources)
        write_atomically(self.directory / "mmscope.sources", text)
        # One retry: off the network, a cached kernel should not wait long for its note.
        argv = [*self._argv("apt-get"), "-q", "-o", "Acquire::Retries=1", "update"]
        what = f"reading the package lists of {self.suite}"
        self._run(argv, self.directory, _UPDATE_LIMIT_S, what)

    def _render(self, sources: tuple[Source, ...]) -> str:
        arch = debian_arch(self.arch)
        return render_sources(sources, debian_arch=arch, keyring=self.keyring)

    def _write_configuration(self) -> None:
        for name in ("lists/partial", "archives/partial", "state", "cache", "log"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "status").touch()
        text = _CONFIGURATION.format(arch=debian_arch(self.arch), root=self.directory)
        path = self.directory / "apt.conf"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)


def open_root(
    suite: str,
    arch: str,
    *,
    cache: Path,
    environment: Mapping[str, str] = os.environ,
    host_root: Path = Path("/"),
    run: Runner = run_apt,
) -> AptRoot:
    """The private root for ``suite`` and ``arch`` in ``cache``; nothing is fetched yet.

    Raises:
        MissingToolError: the keyring is not there.
        UsageError: no mirror is known, or the architecture is not.
    """
    name = f"{suite}-{debian_arch(arch)}"
    mirror = environment.get("MMSCOPE_MIRROR") or None
    return AptRoot(
        directory=cache / "apt" / name,
        suite=suite,
        arch=arch,
        sources=tuple(select_sources(suite, read_host(host_root), mirror=mirror)),
        keyring=find_keyring(environment),
        run=run,
    )


def sha256_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _stanzas(text: str) -> list[dict[str, str]]:
    """Fields of each stanza that apt-cache prints; continuation lines are not needed here."""
    stanzas = []
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): ?(.*)$", block, re.MULTILINE))
        if fields:
            stanzas.append(fields)
    return stanzas


def _parse_deb(fields: Mapping[str, str]) -> Deb:
    """Raises FetchError when the index lacks what verification needs."""
    try:
        # apt names what it stores by package, version (its colon quoted) and architecture.
        version = fields["Version"].replace(":", "%3a")
        deb = Deb(
            package=fields["Package"],
            version=fields["Version"],
            file_name=f"{fields['Package']}_{version}_{fields['Architecture']}.deb",
            size_bytes=int(fields["Size"]),
            sha256=fields["SHA256"].strip().lower(),
            depends=", ".join(filter(None, [fields.get("Pre-Depends"), fields.get("Depends")])),
        )
    except (KeyError, ValueError) as error:
        raise FetchError(
            f"the package index describes {fields.get('Package', 'a package')} without {error}"
        ) from None
    if not re.fullmatch(r"[0-9a-f]{64}", deb.sha256) or "/" in deb.file_name:
        raise VerificationError(f"the package index has an odd entry for {deb.package}")
    return deb


def _is_verified(path: Path, deb: Deb) -> bool:
    """Whether the file is here, whole and right; what is not right is removed."""
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return False
    if size_bytes == deb.size_bytes and sha256_file(path) == deb.sha256:
        return True
    path.unlink()
    return False


def _verify(path: Path, deb: Deb) -> None:
    if not path.is_file():
        raise InfrastructureError(f"apt reported success, but {path} is not there")
    size_bytes = path.stat().st_size
    if not _is_verified(path, deb):
        raise VerificationError(
            f"{deb.file_name} is not what the signed index describes",
            details={"bytes": size_bytes, "expected bytes": deb.size_bytes, "sha256": deb.sha256},
            fix="try again; if it stays so, something between here and the mirror alters files",
        )
