"""What vpngen costs, measured beside its peers: `python -m benchmarks`. README.md says what is asked and how."""
