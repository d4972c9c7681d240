"""Reviews: answers that people decide about, and the estimates that come of it."""
