"""What the benchmarks of the offline store measure over: servers, tables of one-minute rows, entity rows, Feast stores."""
