"""The console: pages in a browser, served by the gateway."""
