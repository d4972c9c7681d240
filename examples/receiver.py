"""A receiver of webhooks in ten lines: `WEBHOOK_SECRET=whsec_… python examples/receiver.py 8080`."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = Webhook(os.environ["WEBHOOK_SECRET"]).verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError):
            return self.send_error(401)
        print(self.headers["webhook-id"], event["type"], event["data"]["id"], flush=True)
        self.send_response(204)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
