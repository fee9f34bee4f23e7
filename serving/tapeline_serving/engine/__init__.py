"""What happens between a request and its answer, without a word of gRPC: plan, reading, live rows, model, log."""
