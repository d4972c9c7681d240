"""The generated pages of the documentation, from settings, commands, events, routes and metrics."""
