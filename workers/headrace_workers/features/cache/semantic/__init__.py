"""Looking up before a model is asked: answers given before, and passages of documents."""
