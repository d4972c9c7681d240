"""The file store: what is in files, wherever they lie. The ledger says which there are."""
