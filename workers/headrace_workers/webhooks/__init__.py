"""Webhooks: whom an end is told, in which words, signed how, and sent where. Standard Webhooks, with closed doors."""
