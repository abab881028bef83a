"""examples/chat.py, as it is."""

from examples.chat import app

__all__ = ["app"]
