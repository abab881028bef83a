"""WebSockets of Django Channels beside the views of django_app.py."""

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from .django_app import app as views


class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels ships no types.
    async def connect(self) -> None:
        await self.accept(self.scope["subprotocols"][0], headers=[(b"x-framework", b"channels")])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)


class Closed(WebsocketConsumer):  # type: ignore[misc]
    """One that runs in a thread, as synchronous consumers do."""

    def connect(self) -> None:
        self.close()


routes: Any = URLRouter([path("echo", Echo.as_asgi()), path("closed", Closed.as_asgi())])
app = ProtocolTypeRouter({"http": views, "websocket": routes})
