"""What a market of many symbols would need: costs measured here, a queueing network driven by them, tables and a picture."""
