"""The one error that ends a run."""


class BenchmarkError(Exception):
    """A server or client did not do what a fair figure needs. The message is for the terminal."""
