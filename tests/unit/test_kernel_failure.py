from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import (
    DiskFullError,
    FetchError,
    GoneError,
    MmscopeError,
    NetworkError,
    StaleIndexError,
    VerificationError,
)
from harness.kernel.failure import classify

NO_NAME = """\
Err:1 http://m.example/debian bookworm InRelease
  Could not resolve 'm.example'
Reading package lists...
E: Failed to fetch http://m.example/debian/dists/bookworm/InRelease  Could not resolve 'm.example'
E: Some index files failed to download. They have been ignored, or old ones used instead.
"""
REFUSED = """\
Err:1 http://m.example/debian bookworm InRelease
  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)
"""
PROXY = """\
Err:1 http://m.example/debian bookworm InRelease
  403  Forbidden [IP: 192.0.2.1 80]
E: The repository 'http://m.example/debian bookworm InRelease' is not signed.
"""
NO_KEY = """\
Err:1 http://m.example/debian bookworm InRelease
  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 0
W: GPG error: http://m.example/debian bookworm InRelease: The following signatures couldn't be
E: The repository 'http://m.example/debian bookworm InRelease' is not signed.
"""
BAD_SIGNATURE = "E: The following signatures were invalid: BADSIG 0E98404D386FA1D9\n"
UNSIGNED = "E: The repository 'http://m.example/debian bookworm Release' is not signed.\n"
TRUNCATED = """\
E: Failed to fetch http://m.example/x.deb  File has unexpected size (10 != 20).
E: Failed to fetch http://m.example/x.deb  Hash Sum mismatch
"""
NO_SUITE = """\
Err:2 http://m.example/debian nosuch Release
  404  Not Found [IP: 192.0.2.1 80]
E: The repository 'http://m.example/debian nosuch Release' does not have a Release file.
"""
NO_PACKAGE = "E: Unable to locate package linux-image-nosuch\n"
NO_VERSION = "E: Version '9' for 'libc6' was not found\n"
FULL = """\
E: Write error - write (28: No space left on device)
E: Failed to fetch http://m.example/x.deb  Hash Sum mismatch
"""


STALE = """\
Err:6 http://m.example/debian-security bookworm-security/main i386 Packages
  File has unexpected size (346968 != 366988). Mirror sync in progress?
E: Failed to fetch http://m.example/binary-i386/Packages.xz  File has unexpected size (1 != 2).
E: Some index files failed to download. They have been ignored, or old ones used instead.
"""
GONE = """\
Err:1 http://m.example/debian-security bullseye-security/main arm64 linux-image-5 arm64 5.10.262-1
  404  Not Found [IP: 192.0.2.1 80]
E: Failed to fetch http://m.example/pool/linux-image-5_5.10.262-1_arm64.deb  404  Not Found
"""


@pytest.mark.parametrize(
    ("output", "kind", "text"),
    [
        (NO_NAME, NetworkError, "no mirror answered"),
        (REFUSED, NetworkError, "no mirror answered"),
        (PROXY, NetworkError, "HTTP 403 Forbidden"),
        (NO_KEY, VerificationError, "signature"),
        (BAD_SIGNATURE, VerificationError, "signature"),
        (UNSIGNED, VerificationError, "signature"),
        (TRUNCATED, VerificationError, "digest"),
        (STALE, StaleIndexError, "an index is not the one that was signed"),
        (STALE + TRUNCATED, VerificationError, "digest"),
        (STALE + NO_KEY, VerificationError, "signature"),
        (GONE, GoneError, "no longer has a file"),
        (NO_KEY + NO_NAME, VerificationError, "signature"),
        (NO_SUITE, FetchError, "no suite nosuch"),
        (NO_PACKAGE, FetchError, "nosuch has no package linux-image-nosuch"),
        (NO_VERSION, FetchError, "no package libc6 9"),
        ("E: something new\n", FetchError, "apt failed"),
        ("", FetchError, "apt failed"),
        (FULL, DiskFullError, "no room"),
    ],
)
def test_what_apt_says_names_the_error(
    tmp_path: Path, output: str, kind: type[MmscopeError], text: str
) -> None:
    error = classify("reading lists", output, suite="nosuch", cache=tmp_path)
    assert type(error) is kind
    assert text in error.message


def test_the_error_carries_apts_own_words(tmp_path: Path) -> None:
    error = classify("reading lists", NO_NAME, suite="bookworm", cache=tmp_path)
    assert error.details["apt"].splitlines()[:2] == [
        "Err:1 http://m.example/debian bookworm InRelease",
        "  Could not resolve 'm.example'",
    ]
    assert "Reading package lists" not in error.details["apt"]
    assert error.fix
