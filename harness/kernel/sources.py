"""The host's apt sources, and the ones made from them for another suite or architecture.

Mirrors come from the host's own configuration only. The keyring is always named, and options
that switch verification off (``trusted=yes`` and its like) are not carried over.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import InfrastructureError, MissingToolError, UsageError

FALLBACK_SUITE = "bookworm"
"""The suite used on hosts that are not Debian and so have none of their own."""

CODENAMES = ("bullseye", "bookworm", "trixie", "forky", "sid", "experimental")
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable")
_ROLLING = frozenset({"sid", "unstable", "experimental"})
_POCKET = re.compile(r"(?P<base>[a-z]+)(?P<pocket>-updates|-security|-backports|/updates)?$")
_KEYRING_NAMES = ("debian-archive-keyring.gpg", "debian-archive-keyring.pgp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One enabled binary source of the host."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One suite on one mirror; only a required one must be reachable."""

    uri: str
    suite: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the host's files say: its suite (None when not Debian) and its apt entries."""

    codename: str | None
    entries: tuple[Entry, ...]

    @property
    def suite(self) -> str:
        """The suite whose packages are meant when none is named."""
        if self.codename is None:
            return FALLBACK_SUITE
        named = {suite for entry in self.entries for suite in entry.suites}
        if self.codename not in named and named & {"sid", "unstable"}:
            return "sid"
        return self.codename


def parse_one_line(text: str, source: str) -> list[Entry]:
    """The ``deb`` lines of a ``.list`` file; ``deb-src`` lines and comments are passed over.

    Raises:
        InfrastructureError: a line does not have the form apt reads.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.partition("#")[0].strip()
        if not re.match(r"deb\s", stripped):
            continue
        match = re.fullmatch(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<rest>.+)", stripped)
        words = match["rest"].split() if match else []
        if match is None or len(words) < 2:
            raise InfrastructureError(
                f"{source}:{number}: not an apt source: {line.strip()!r}",
                fix="correct the line; `man sources.list` has the format",
            )
        options = dict(
            word.partition("=")[::2] for word in (match["options"] or "").lower().split()
        )
        signed_by = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
        if options.get("enabled") == "no":
            continue
        entries.append(
            Entry(
                uris=(words[0],),
                suites=(words[1],),
                components=tuple(words[2:]),
                signed_by=signed_by[1] if signed_by else None,
            )
        )
    return entries


def parse_deb822(text: str) -> list[Entry]:
    """The enabled stanzas of a ``.sources`` file that name binary packages."""
    from debian.deb822 import Deb822  # slow to import, and only needed off the cached path

    entries = []
    for stanza in Deb822.iter_paragraphs(text.splitlines(), use_apt_pkg=False):
        if stanza.get("Enabled", "yes").strip().lower() in {"no", "false", "0", "off", "without"}:
            continue
        if "deb" not in stanza.get("Types", "").split():
            continue
        entries.append(
            Entry(
                uris=tuple(stanza.get("URIs", "").split()),
                suites=tuple(stanza.get("Suites", "").split()),
                components=tuple(stanza.get("Components", "").split()),
                signed_by=stanza.get("Signed-By"),
            )
        )
    return entries


def parse_os_release(text: str) -> dict[str, str]:
    """``KEY=value`` lines, quotes taken off."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def read_host(root: Path = Path("/")) -> Host:
    """Read ``etc/os-release`` and ``etc/apt`` below ``root``.

    Raises:
        InfrastructureError: an apt source file cannot be understood.
    """
    try:
        release = parse_os_release((root / "etc/os-release").read_text(encoding="utf-8"))
    except FileNotFoundError:
        release = {}
    codename = release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None
    apt = root / "etc/apt"
    parts = apt / "sources.list.d"
    entries: list[Entry] = []
    for path in [apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            entries += parse_one_line(path.read_text(encoding="utf-8"), str(path))
    for path in sorted(parts.glob("*.sources")):
        entries += parse_deb822(path.read_text(encoding="utf-8"))
    return Host(codename=codename, entries=tuple(entries))


def select_sources(suite: str, host: Host, *, mirror: str | None = None) -> list[Source]:
    """Where ``suite`` is to be had: its main archive, then its updates and security fixes.

    ``mirror`` (MMSCOPE_MIRROR) replaces the host's mirror; security fixes are then left out,
    since where that mirror keeps them is not known.

    Raises:
        UsageError: the host names no Debian mirror and none was given.
    """
    entries = [] if mirror else _debian_entries(host)
    main = mirror or _first_uri(entries, [suite, host.suite]) or _first_uri(entries, None)
    if main is None:
        raise UsageError(
            "no Debian mirror is configured on this host",
            fix="set MMSCOPE_MIRROR to the URI of a Debian mirror, as an apt source names it",
        )
    sources = [Source(uri=main, suite=suite, required=True)]
    if suite in _ROLLING or "-" in suite:
        return sources
    sources.append(Source(uri=main, suite=f"{suite}-updates", required=False))
    security_suites = sorted(
        {name for entry in entries for name in entry.suites if name.endswith("-security")}
    )
    security = _first_uri(entries, [f"{suite}-security", *security_suites])
    if security is not None:
        sources.append(Source(uri=security, suite=f"{suite}-security", required=False))
    return sources


def render_sources(sources: Iterable[Source], *, debian_arch: str, keyring: Path) -> str:
    """The deb822 text for apt: component main of one architecture, with its keyring."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {source.suite}\nComponents: main\n"
        f"Architectures: {debian_arch}\nSigned-By: {keyring}\n"
        for source in sources
    )


def find_keyring(
    environment: Mapping[str, str] = os.environ,
    *,
    directory: Path = Path("/usr/share/keyrings"),
) -> Path:
    """``$MMSCOPE_KEYRING``, else Debian's archive keyring.

    Raises:
        MissingToolError: the file is not there.
    """
    named = environment.get("MMSCOPE_KEYRING")
    candidates = [Path(named)] if named else [directory / name for name in _KEYRING_NAMES]
    for path in candidates:
        if path.is_file():
            return path.absolute()
    if named:
        raise MissingToolError(
            f"MMSCOPE_KEYRING names {named}, which is not a file",
            fix="point it at a keyring with Debian's archive keys, or unset it",
        )
    raise MissingToolError(
        f"Debian's archive keys are not installed ({candidates[0]})",
        fix="apt-get install debian-archive-keyring",
    )


def _debian_entries(host: Host) -> list[Entry]:
    """Entries for Debian's own main component, most certain ones alone if there are any."""
    known = {*CODENAMES, *_ALIASES, host.codename}

    def names_debian(suite: str) -> bool:
        match = _POCKET.match(suite)
        return match is not None and match["base"] in known

    entries = [
        entry
        for entry in host.entries
        if "main" in entry.components
        and any(names_debian(suite) for suite in entry.suites)
        and any(not uri.startswith("cdrom:") for uri in entry.uris)
        and (entry.signed_by is None or "debian-archive" in entry.signed_by)
    ]
    certain = [entry for entry in entries if entry.signed_by or _has_debian_path(entry.uris)]
    return certain or entries


def _has_debian_path(uris: Sequence[str]) -> bool:
    return any(
        urlsplit(uri).path.rstrip("/").rpartition("/")[2] in {"debian", "debian-security"}
        for uri in uris
    )


def _first_uri(entries: Iterable[Entry], suites: Sequence[str] | None) -> str | None:
    """The first URI of the entry that serves the earliest of ``suites`` (None: a main archive)."""
    entries = list(entries)
    if suites is None:
        suites = [
            suite
            for entry in entries
            for suite in entry.suites
            if not suite.endswith(("-security", "/updates"))
        ]
    for suite in suites:
        for entry in entries:
            if suite in entry.suites:
                return next(uri for uri in entry.uris if not uri.startswith("cdrom:"))
    return None
