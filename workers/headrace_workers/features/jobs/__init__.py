"""Jobs over HTTP: send, show, wait, follow and cancel."""
