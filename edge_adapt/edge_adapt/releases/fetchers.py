"""Where files of a repository come from: a folder (a disk that was carried to the robot), or a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from robin_perception.core.bounded import require_plain_file
from robin_perception.core.errors import Code, RobinError

_CHUNK = 65_536


class FolderFetcher(FetcherInterface):
    """Plain files of ``file://`` addresses; the caller bounds what is taken of them."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        try:
            require_plain_file(path)
        except RobinError as exc:
            status = 404 if exc.code is Code.INPUT_MISSING else 500
            raise DownloadHTTPError(exc.text, status) from None
        return _chunks(path)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            yield data


def source_of(where: str) -> tuple[str, FetcherInterface]:
    """(address that ends in a slash, fetcher) of a folder, a ``file://`` or an ``http(s)://`` address.
    Raises RobinError OPTION_INVALID."""
    scheme = urlsplit(where).scheme
    if scheme in ("http", "https"):
        return where.rstrip("/") + "/", Urllib3Fetcher(app_user_agent="robin-edge")
    if scheme == "file":
        return where.rstrip("/") + "/", FolderFetcher()
    if not Path(where).is_dir():
        raise RobinError(Code.OPTION_INVALID, f"{where}: neither a folder nor an http(s):// address")
    return Path(where).resolve().as_uri() + "/", FolderFetcher()
