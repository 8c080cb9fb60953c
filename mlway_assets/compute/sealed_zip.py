"""A zip that says of each of its files what it must hash to, and is the same bytes for the same files."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping

from configs.errors import MlwayError

MANIFEST = "MANIFEST.sha256"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""A zip cannot tell of an earlier moment; the files' own times would change its bytes."""


class SealError(MlwayError):
    """What should be a sealed zip is not one."""


def sealed_zip(files: Mapping[str, bytes]) -> bytes:
    """The files, and a manifest in the form of `sha256sum`."""
    manifest = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name, data in sorted({**files, MANIFEST: manifest.encode()}.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, wherever it is made
            packed.writestr(entry, data)
    return content.getvalue()


def seal_problems(content: bytes, name: str) -> list[str]:
    """Each file that was altered, removed or added since; none in a sealed zip as it was made. Raises SealError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            names = packed.namelist()
            seen = {each: _hash(packed, each) for each in names if each != MANIFEST}
            manifest = packed.read(MANIFEST) if MANIFEST in names else b""
    except (zipfile.BadZipFile, zlib.error) as error:
        raise SealError(
            f"{name} is no whole zip file: {error}.\nHint: copy it again, or make the pack again."
        ) from error
    expected = _expected(manifest.decode("utf-8", "replace"), name)
    twice = {f"{each} is there twice" for each in names if names.count(each) > 1}
    removed = {f"{each} is missing" for each in expected.keys() - seen.keys()}
    added = {f"{each} is not in the manifest" for each in seen.keys() - expected.keys()}
    altered = {f"{each} was altered" for each in seen.keys() & expected.keys() if seen[each] != expected[each]}
    return sorted(twice | removed | added | altered)


def manifest_hash(content: bytes) -> str:
    """SHA-256 of the manifest: kept elsewhere, it tells whether manifest and files were replaced together."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        return hashlib.sha256(packed.read(MANIFEST)).hexdigest()


def _hash(packed: zipfile.ZipFile, name: str) -> str | None:
    """SHA-256 of a file; None where it cannot even be unpacked."""
    try:
        return hashlib.sha256(packed.read(name)).hexdigest()
    except (zipfile.BadZipFile, zlib.error):
        return None


def _expected(manifest: str, name: str) -> dict[str, str]:
    lines = [line.partition("  ") for line in manifest.splitlines()]
    if not lines or any(len(digest) != 64 or not file for digest, _, file in lines):
        raise SealError(
            f"{name} has no {MANIFEST} that can be read.\nHint: `mlway evidence PRODUCT VERSION` makes a pack with one."
        )
    return {file: digest for digest, _, file in lines}
