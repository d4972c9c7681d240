"""All that runs: ledger, bridge, workers, steps, engines and the command line."""
