"""A hub, two sites and four models on one machine: what `make demo` shows and the e2e tests check."""
