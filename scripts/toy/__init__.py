"""The toy study: small distributions with known modes, one small network, every method of `geoflow.flows`."""
