"""The features. Each stands in a folder of its own."""
