"""ASGI for Gunicorn: `gunicorn -k gunicorn_asgi.Worker main:app`."""

from .workers import H2CWorker, H11Worker, Worker

__all__ = ["H2CWorker", "H11Worker", "Worker", "__version__"]

__version__ = "0.1.0"
