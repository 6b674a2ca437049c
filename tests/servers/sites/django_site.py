"""The site on Django, with a database. See test_frameworks.py for what its pages are for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import gevent
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()
everybody = threading.Barrier(100)
writers = threading.Barrier(5)


class Note(models.Model):
    text = models.CharField(max_length=100)
    #: On which connection to the database it was written.
    connection = models.BigIntegerField()

    class Meta:
        app_label = "site"


with connection.schema_editor() as editor:
    editor.create_model(Note)
connection.close()


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"hello {name}, {request.GET.get('how', 'quietly')}")


def count(request: Any) -> HttpResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.POST['name']} is {request.POST['age']}")


def upload(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    return HttpResponse(f"{file.name} {hashlib.sha256(file.read()).hexdigest()}")


def download(_: HttpRequest) -> FileResponse:
    return FileResponse(open("data.bin", "rb"), as_attachment=True, filename="data.bin")


def stream(_: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        yield "first\n"
        while not Path("go").exists():
            time.sleep(0.01)
        yield "second\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def endless(_: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        try:
            while True:
                yield "tick\n"
                time.sleep(0.001)
        finally:
            Path("gone").touch()

    return StreamingHttpResponse(lines(), content_type="text/plain")


def together(_: HttpRequest) -> HttpResponse:
    everybody.wait()
    return HttpResponse("together")


def limited(_: HttpRequest) -> HttpResponse:
    try:
        with gevent.Timeout(0.01):
            time.sleep(60)
    except gevent.Timeout:
        return HttpResponse("too late", status=504)
    return HttpResponse("in time")


def notes(request: HttpRequest) -> HttpResponse:
    """POST writes notes, all or none of them; GET tells them, and on how many connections to the
    database they were written."""
    if request.method == "POST":
        connection.ensure_connection()
        writers.wait()
        with transaction.atomic():
            for text in request.POST.getlist("text"):
                if text == "fail":
                    raise RuntimeError("as it should")
                Note(text=text, connection=id(connection.connection)).save()
        return HttpResponse("written")
    texts = Note.objects.order_by("text").values_list("text", flat=True)
    connections = Note.objects.values("connection").distinct().count()
    return HttpResponse(f"{' '.join(texts)}, on {connections}")


def fail(_: HttpRequest) -> HttpResponse:
    raise RuntimeError("as it should")


def missing(_: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse("there is no such page", status=404)


def failed(_: HttpRequest) -> HttpResponse:
    return HttpResponse("the page has failed", status=500)


handler404 = missing
handler500 = failed
urlpatterns = [
    path("hello/<str:name>", hello),
    *(path(view.__name__, view) for view in (count, form, upload, download, stream)),
    *(path(view.__name__, view) for view in (endless, together, limited, notes, fail)),
]
app = get_wsgi_application()
