"""What tests of several rooms share: the session's servers and the TimescaleDB editions."""
