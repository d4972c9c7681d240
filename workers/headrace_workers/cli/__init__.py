"""The command line: what all commands share, and those about jobs as such. It knows no feature."""
