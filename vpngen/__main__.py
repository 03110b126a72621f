"""`python -m vpngen` is `vpngen`."""

from vpngen.cli import main

main()
