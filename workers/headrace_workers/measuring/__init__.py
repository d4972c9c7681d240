"""How good the cache and retrieval are on questions whose right end is known: measures, and a page that shows them."""
