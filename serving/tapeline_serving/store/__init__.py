"""Where the server reads features: a pipelining Redis connection for one event loop."""
