"""The real TimescaleDB editions, fetched once into a cache and started without root or containers."""
