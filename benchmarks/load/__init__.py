"""What load tests and gateway tests are made of."""
