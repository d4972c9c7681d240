"""What a cosine cannot see: whether two questions that look alike ask for the same."""
