"""edgefleet: rolls quantized ML models out to fleets of small K3s clusters."""

__version__ = "0.1.0"
