"""Webhooks: deliveries of jobs' and batches' ends, signed as Standard Webhooks specifies."""
