"""Speed and proofs: `make bench NAME=pairs`."""
