"""A site on Django's ASGI handler: views of both kinds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)


async def hello(request: HttpRequest, name: str) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(f"hello {name}, {request.GET.get('how', 'quietly')}")


def sync(request: HttpRequest) -> HttpResponse:
    time.sleep(0.001)
    return HttpResponse("sync")


async def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return HttpResponse(f"{file.name} {file.size}")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def lines() -> AsyncIterator[bytes]:
        yield b"first\n"
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        yield b"second\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("hello/<name>", hello),
    path("sync", sync),
    path("upload", upload),
    path("stream", stream),
]
app = get_asgi_application()
