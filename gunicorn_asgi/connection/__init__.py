"""One connection, its exchanges, its clocks: where bytes meet the event loop."""
