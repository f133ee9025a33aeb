"""HUMANS. `edgefleet …`, also `kubectl edgefleet …`."""
