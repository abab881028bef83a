"""The routes of test_frameworks.py in Django."""

from collections.abc import AsyncIterator

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["example.org"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="no secret",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)

from django.core.asgi import get_asgi_application  # noqa: E402  # Django reads its settings on import.
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.decorators.http import require_http_methods  # noqa: E402

from .contents import DOCUMENT, FILE, PIECES  # noqa: E402


@require_http_methods(["GET", "HEAD"])
def document(request: HttpRequest) -> HttpResponseBase:
    return JsonResponse(DOCUMENT)


async def stream(request: HttpRequest) -> HttpResponseBase:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in PIECES:
            yield piece

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def file(request: HttpRequest) -> HttpResponseBase:
    return FileResponse(FILE.open("rb"), content_type="text/plain")


def upload(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(request.body, content_type="application/octet-stream")


async def error(request: HttpRequest) -> HttpResponseBase:
    raise ValueError("raised on purpose")


urlpatterns = [
    path("json", document),
    path("stream", stream),
    path("file", file),
    path("upload", upload),
    path("error", error),
]
app = get_asgi_application()
