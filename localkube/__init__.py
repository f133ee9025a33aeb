"""Real Kubernetes clusters on one machine, without Docker. Standard library only."""
