"""One object of S3, read whole with one GetObject."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from spotjob.aws.calls import Threads
from spotjob.aws.clients import Session

ATTEMPTS, READ_SECONDS = 4, 30
LARGEST_BYTES = 1024 * 1024


class ObjectError(Exception):
    """The object cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """What GetObject answered."""

    body: bytes
    last_modified: datetime


async def read_object(bucket: str, key: str, version_id: str = "", region: str = "") -> S3Object:
    """The object, or this version of it. An empty region means that of the environment. Raises ObjectError."""
    threads = Threads(partial(Session().client, "s3", region, ATTEMPTS, READ_SECONDS), 1, "s3")
    try:
        return await threads.run(partial(_read, **get_request(bucket, key, version_id)))
    except ClientError as error:
        code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        raise ObjectError(f"s3://{bucket}/{key}: {code}: {text}") from error
    except BotoCoreError as error:
        raise ObjectError(f"s3://{bucket}/{key}: {error}") from error
    finally:
        threads.close()


def get_request(bucket: str, key: str, version_id: str) -> dict[str, str]:
    """The whole GetObject request."""
    return {"Bucket": bucket, "Key": key} | ({"VersionId": version_id} if version_id else {})


def _read(client: Any, **request: str) -> S3Object:
    answer = client.get_object(**request)
    with answer["Body"] as body:
        content = body.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise ObjectError(f"s3://{request['Bucket']}/{request['Key']} has more than {LARGEST_BYTES} bytes")
    return S3Object(content, answer["LastModified"])
