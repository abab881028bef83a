"""Bytes to values and back. No event loop, no sockets, no clock, no logging."""
