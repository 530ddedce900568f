"""Where the YAML is read from: a file, or one object of S3."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from spotjob.aws.objects import LARGEST_BYTES, ObjectError, read_object
from spotjob.sequencer.environment import BadUsage

log = logging.getLogger(__name__)

S3_PATH = re.compile(r"s3://(?P<bucket>[^/?]+)/(?P<key>[^?]+)(?:\?(?P<query>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a sequence, and what it is called in messages."""

    name: str
    text: str
    folder: Path | None = None
    """What files of SpotJobs are relative to; None: there are none beside an object of S3."""

    def read_beside(self, path: str) -> str:
        """The text of a file by its path relative to this one. Raises OSError, UnicodeError."""
        if self.folder is None:
            raise FileNotFoundError(f"{self.name} is no local file, so nothing lies beside it")
        return _text(self.folder / path)


async def read_source(where: str) -> Source:
    """FILE or s3://bucket/key[?versionId=]. Raises BadUsage."""
    if "://" in where:
        return await _from_s3(where)
    path = Path(where)
    try:
        return Source(where, _text(path), path.parent)
    except OSError as error:
        raise BadUsage(f"{where}: {error.strerror}") from error
    except UnicodeError as error:
        raise BadUsage(f"{where} is not UTF-8") from error


def _text(path: Path) -> str:
    """At most as long as an object of S3 may be: a device file, for one, has no end."""
    with path.open("rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(27, f"more than {LARGEST_BYTES} bytes", str(path))
    return content.decode()


async def _from_s3(where: str) -> Source:
    bucket, key, version_id = s3_parts(where)
    log.info("downloading from S3: %s/%s", bucket, key)
    try:
        found = await read_object(bucket, key, version_id)
        text = found.body.decode()
    except ObjectError as error:
        raise BadUsage(str(error)) from error
    except UnicodeError as error:
        raise BadUsage(f"{where} is not UTF-8") from error
    log.info("file last modified on: %s", found.last_modified.strftime("%Y-%m-%d %H:%M:%S UTC"))
    return Source(where, text)


def s3_parts(where: str) -> tuple[str, str, str]:
    """Bucket, key and version. Raises BadUsage."""
    parts = S3_PATH.fullmatch(where)
    query = parse_qs(parts["query"] or "", keep_blank_values=True) if parts else {}
    if parts is None or query.keys() - {"versionId"} or any(len(each) != 1 or not each[0] for each in query.values()):
        raise BadUsage(f"{where} is no S3 path: write s3://BUCKET/KEY, or s3://BUCKET/KEY?versionId=VERSION")
    return parts["bucket"], parts["key"], query.get("versionId", [""])[0]
