"""gRPC around the engine: the servicer only translates, the server only starts and stops."""
