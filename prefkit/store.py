"""A folder of files anywhere that fsspec reaches: a bucket (s3://, gs://), a hub (hf://), this machine.

A file appears whole or not at all: buckets promise that, and on this machine it is written beside its place and
renamed. Whatever a bucket says of a moment's trouble (5xx, slow down) is waited for and tried again by its own client;
what remains comes as a message.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from prefkit.durable import PART, explained_disk_errors, make_folders, remove, replacing
from prefkit.errors import RunError

TRIES = 6
"""How often a request is made before trouble is told."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_ELSEWHERE = ("gs", "gcs", "hf", "abfs", "adl", "az", "oss", "memory")
"""Kinds of URL whose first part is a bucket, not a host; ``memory`` plays one in tests."""
_PAGES = ("http://", "https://", "ws://", "wss://")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def is_url(path: object) -> bool:
    """Whether a path is the URL of a folder; those of web pages and servers are none.

    >>> is_url("s3://bucket/run"), is_url("runs/first"), is_url("http://127.0.0.1:6900")
    (True, False, False)
    """
    found = _URL.match(str(path))
    return found is not None and found[0].lower() not in _PAGES


class Store:
    """A folder, which may not be there yet.

    It can be pickled, so that other processes and machines read and write it too.

    Args:
        url: of the folder, or a path on this machine.

    Raises:
        RunError: no package reads such URLs.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._explained():
            self._files, self._root = _opened(self.url)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.url,)

    @property
    def local(self) -> Path | None:
        """The folder, where it is on this machine."""
        return Path(self._root) if self._files.protocol in ("file", ("file", "local")) else None

    @property
    def in_house(self) -> bool:
        """Whether it is on this machine or its private network."""
        from prefkit.models.addresses import is_local

        if self.local:
            return True
        kind = self.url.partition("://")[0]
        if kind not in ("s3", "s3a"):
            return kind not in _ELSEWHERE and is_local(self.url)
        named = (getattr(self._files, "endpoint_url", None), *map(os.environ.get, _ENDPOINTS))
        return is_local(next(filter(None, named), ""))

    def stamps(self, under: str = "") -> dict[str, str]:
        """The files below a folder by name, each with what changes when the file does."""
        top = f"{self._root}/{under}".rstrip("/")
        with self._explained(under):
            try:
                found = self._files.find(top, detail=True)
            except FileNotFoundError:
                return {}
        names = {path.removeprefix(self._root).lstrip("/"): _stamp(info) for path, info in found.items()}
        return {name: names[name] for name in sorted(names) if not name.endswith(PART)}

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is none."""
        with self._explained(name):
            try:
                content: bytes = self._files.cat_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put a file in its place, whole."""
        if self.local:
            make_folders((self.local / name).parent)
            with replacing(self.local / name) as file:
                file.write(content)
            return
        with self._explained(name), self._there():
            self._files.pipe_file(f"{self._root}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """Put a file where none is; whether there was none. Of two that try at a time one is told True, where the store
        can promise it."""
        try:
            with self._explained(name), self._there():
                if self.local:
                    make_folders((self.local / name).parent)
                self._files.pipe_file(f"{self._root}/{name}", content, mode="create")
        except FileExistsError:
            return False
        except NotImplementedError:
            if self.read(name) is not None:
                return False
            self.write(name, content)
        return True

    def upload(self, file: Path, name: str) -> None:
        """Put a file of this machine in its place, whole."""
        if self.local:
            make_folders((self.local / name).parent)
            with open(file, "rb") as source, replacing(self.local / name) as place:
                shutil.copyfileobj(source, place)
            return
        with self._explained(name), self._there(), explained_disk_errors(file):
            self._files.put_file(str(file), f"{self._root}/{name}")

    def download(self, name: str, file: Path) -> None:
        """Fetch a file to this machine, whole."""
        part = file.with_name(file.name + PART)
        make_folders(file.parent)
        with self._explained(name), explained_disk_errors(file):
            try:
                self._files.get_file(f"{self._root}/{name}", str(part))
                os.replace(part, file)
            except BaseException:
                remove(part)
                raise

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file to read from anywhere in it.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._explained(name), self._files.open(f"{self._root}/{name}", "rb") as file:
            yield file

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are there, and on this machine the folders that they leave empty."""
        for name in names:
            with self._explained(name), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
            if self.local:
                with contextlib.suppress(OSError):
                    for above in list(Path(name).parents)[:-1]:
                        (self.local / above).rmdir()

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        """Turn a bucket that is not there, when something is written, into a message."""
        try:
            yield
        except FileNotFoundError as error:
            remedy = "Make the bucket first, or look at its name."
            raise RunError(self.url, _said(error), "a place that is there", remedy) from None

    @contextlib.contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        """Turn what a store's client raises into a message with a remedy."""
        where = f"{self.url}/{name}".rstrip("/")
        try:
            yield
        except (RunError, FileNotFoundError, FileExistsError, NotImplementedError):
            raise
        except ImportError as error:
            extra = _EXTRAS.get(self.url.partition("://")[0])
            package = f"'prefkit[{extra}]'" if extra else getattr(error, "name", None) or "the package it names"
            raise RunError(where, str(error), "a package that reads such URLs", f"pip install {package}") from None
        except PermissionError as error:
            remedy = "Check the credentials, and what they may do in this bucket."
            raise RunError(where, _said(error), "a place that may be read and written", remedy) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                with explained_disk_errors(Path(where)):
                    raise
            if not _is_of_a_client(error):
                raise
            remedy = "Nothing is lost; run the same command again when the place can be reached."
            raise RunError(where, _said(error), "a place that answers", remedy) from None


def _opened(url: str) -> tuple[Any, str]:
    import fsspec
    from fsspec.core import url_to_fs

    kind = url.partition("://")[0] if is_url(url) else "file"
    options: dict[str, Any] = {"use_listings_cache": False} if kind != "file" else {}
    if kind in ("s3", "s3a"):
        options["config_kwargs"] = {"retries": {"max_attempts": TRIES, "mode": "standard"}}
    try:
        files, root = url_to_fs(url, **options)
    except ValueError as error:
        known = ", ".join(sorted({"s3", "gs", "hf", "file"} & set(fsspec.available_protocols())))
        raise RunError(url, str(error), f"a URL that fsspec reads ({known}, ...)", "Look at its beginning.") from None
    return files, str(root).rstrip("/")


def _stamp(info: dict[str, Any]) -> str:
    tag = info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("oid") or info.get("blob_id")
    return str(tag).strip('"') if tag else f"{info.get('size')}-{info.get('mtime')}"


def _is_of_a_client(error: Exception) -> bool:
    """Whether an error comes from a store's client, or from the network beneath it."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(modules & {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google"})


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
