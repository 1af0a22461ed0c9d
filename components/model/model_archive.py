"""A model archive: one zip file that lists its own files, so that all of it is checked before any of it is used.

    manifest.json   {"schema": 1, "contents": what the sender says of them, "files": {name: {"sha256": …, "bytes": …}}}
    …               those files, by name, and nothing else

The digests tell a damaged archive from a whole one. They do not tell who sent it.
"""

import json
import shutil
import stat
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from components.archives.zip_archive import DAMAGED
from components.artifacts import file_digest, write_atomic
from components.errors import CaptioningError, ConfigurationError
from components.files import require_file

ARCHIVE_SCHEMA = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES = 16 << 20
"""At most; a manifest has some 150 bytes a file."""
CHUNK = 1 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member, so that the same files make the same archive."""


class _File(BaseModel, frozen=True):
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: NonNegativeInt


class _Manifest(BaseModel, frozen=True):
    contents: dict[str, Any]
    files: dict[str, _File]


def write_model_archive(folder: Path, contents: Mapping[str, Any], target: Path) -> int:
    """Packs the folder's files; `target` is replaced by one rename, or left as it was. Returns the number of files."""
    if target.is_dir() or not target.parent.is_dir():
        raise ConfigurationError(f"cannot write {target}: give the name of a file in a folder that exists")
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {name: {"sha256": file_digest(path), "bytes": path.stat().st_size} for name, path in paths.items()}
    manifest = {"schema": ARCHIVE_SCHEMA, "contents": dict(contents), "files": files}
    try:
        with write_atomic(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_member(MANIFEST), json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
            for name, path in sorted(paths.items()):
                member = _member(name)
                member.file_size = path.stat().st_size
                with path.open("rb") as source, archive.open(member, "w") as packed:
                    shutil.copyfileobj(source, packed, CHUNK)
    except OSError as error:
        raise CaptioningError(f"cannot write {target}: {error}. Make room, or give another place") from error
    finally:
        target.with_name(f"{target.name}.tmp").unlink(missing_ok=True)
    return len(files)


def read_model_archive(zip_path: Path, folder: Path) -> dict[str, Any]:
    """Unpacks into `folder` what the manifest lists, never a byte more. Returns what the manifest says of it.

    Raises:
        CaptioningError: it is no model archive, or not whole, or has a member that it should not have, which is named.
    """
    try:
        require_file(zip_path)
        with zipfile.ZipFile(zip_path) as archive:
            members = _members(archive, zip_path)
            manifest = _read_manifest(archive, members.pop(MANIFEST, None), zip_path)
            for name in sorted(members.keys() ^ manifest.files.keys()):
                raise _refusal(zip_path, name, "is missing" if name in manifest.files else "is not in the manifest")
            needed, free = sum(file.bytes for file in manifest.files.values()), shutil.disk_usage(folder).free
            if needed > free:
                raise CaptioningError(f"{zip_path} unpacks to {needed:,} bytes, and {folder} has {free:,}: make room")
            for name, file in manifest.files.items():
                _extract(archive, members[name], file, folder / name, zip_path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {zip_path}: give a file that export-model wrote") from error
    except DAMAGED as error:
        raise CaptioningError(
            f"{zip_path} cannot be read: {error}. Export the model again, or copy it again"
        ) from error
    return manifest.contents


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    return member


def _members(archive: zipfile.ZipFile, zip_path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by name, each of which is a plain file below the folder that it is unpacked into."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        if name in found:
            raise _refusal(zip_path, name, "is there twice")
        path = PurePosixPath(name)  # for which //host is absolute, too
        if name != member.orig_filename or name != str(path) or path.is_absolute() or ".." in path.parts:
            raise _refusal(zip_path, name, "does not lie below the archive's folder, or has an unusual name")
        if "\\" in name or ":" in name or kind not in (0, stat.S_IFREG) or member.flag_bits & 1:
            raise _refusal(zip_path, name, "is a link, encrypted, or otherwise no plain file")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refusal(zip_path, name, "is compressed in an unknown way")
        found[name] = member
    return found


def _read_manifest(archive: zipfile.ZipFile, member: zipfile.ZipInfo | None, zip_path: Path) -> _Manifest:
    if member is None:
        raise CaptioningError(f"{zip_path} has no {MANIFEST}: it is a zip file, but not one that export-model wrote")
    if member.file_size > MANIFEST_BYTES:
        raise _refusal(zip_path, MANIFEST, f"has {member.file_size:,} bytes, more than any manifest")
    try:
        with archive.open(member) as file:
            content = json.loads(file.read(member.file_size))  # and no more, whatever it unpacks to
    except RecursionError:
        raise _refusal(zip_path, MANIFEST, "is nested too deeply") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != ARCHIVE_SCHEMA:
        raise CaptioningError(
            f"{zip_path} is a model archive of schema {schema}; this version reads {ARCHIVE_SCHEMA}: "
            "use the version of the project that exported it"
        )
    try:
        return _Manifest.model_validate(content)
    except ValidationError as error:
        raise _refusal(zip_path, MANIFEST, f"is not as it should be ({error.errors()[0]['msg']})") from error


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: _File, target: Path, zip_path: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, left = sha256(), file.bytes
    try:
        with archive.open(member) as packed, target.open("xb") as unpacked:
            while (chunk := packed.read(CHUNK)) and len(chunk) <= left:
                left -= len(chunk)
                digest.update(chunk)
                unpacked.write(chunk)
    except DAMAGED as error:
        raise _refusal(zip_path, member.filename, f"cannot be read ({error})") from error
    if chunk or left or digest.hexdigest() != file.sha256:
        raise _refusal(zip_path, member.filename, "has not the size and SHA-256 of the manifest")


def _refusal(zip_path: Path, name: str, why: str) -> CaptioningError:
    return CaptioningError(
        f"{zip_path} is damaged or no export: {name!r} {why}. Export the model again, or copy it again"
    )
