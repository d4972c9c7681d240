"""Whether what an answer says stands in what it was given: by words, by vectors, and by changing its sentences."""
