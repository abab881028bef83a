"""Request heads with names for their values, and their beginnings checked in one call."""

from typing import NamedTuple

from gunicorn_asgi.asgi_types import Field
from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire import http1_request
from gunicorn_asgi.wire.http1_request import NO_FIELDS, FieldParser, IncompleteHead


class RequestHead(NamedTuple):
    method: str
    uri: str
    http_version: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[Field]
    fields: dict[bytes, bytes]
    body_length: int
    keep_alive: bool
    expects_continue: bool


def read_request_head(head: bytes, parser: FieldParser, limits: HeadLimits) -> RequestHead:
    """As the first of a connection, and as one that repeats the fields of the request before."""
    first = http1_request.read_request_head(head, parser, limits, NO_FIELDS)
    repeated = http1_request.read_request_head(head, parser, limits, first[-1])
    assert repeated == first
    method, uri, path, raw_path, query_string, section = first
    _, http_version, headers, fields, body_length, keep_alive, expects_continue = section
    return RequestHead(
        method,
        uri,
        http_version,
        path,
        raw_path,
        query_string,
        headers,
        fields,
        body_length,
        keep_alive,
        expects_continue,
    )


def check_incomplete_head(data: bytes, limits: HeadLimits) -> None:
    """Whole, and in small steps: the verdict must be the same."""
    error: Exception | None = None
    step_by_step = IncompleteHead(limits)
    try:
        for size in range(1, len(data), len(data) // 200 + 1):
            step_by_step.check(data[:size])
        step_by_step.check(data)
    except Exception as caught:
        error = caught
    try:
        IncompleteHead(limits).check(data)
    except Exception:
        assert error is not None
        raise
    assert error is None
