"""The networks of the benchmark as other libraries have them. Not tests: programs of their own."""
