"""Request heads with names for their values."""

from gunicorn_asgi.settings import HeadLimits
from gunicorn_asgi.wire import http1_request
from gunicorn_asgi.wire.http1_request import FieldParser, RequestHead


def read_request_head(head: bytes, parser: FieldParser, limits: HeadLimits) -> RequestHead:
    return RequestHead(*http1_request.read_request_head(head, parser, limits))
