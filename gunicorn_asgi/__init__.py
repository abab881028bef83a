"""ASGI for Gunicorn: `gunicorn -k gunicorn_asgi.Worker main:app`."""

from .workers import Worker

__all__ = ["Worker", "__version__"]

__version__ = "0.1.0"
