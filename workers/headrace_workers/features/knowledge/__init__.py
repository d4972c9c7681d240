"""Knowledge bases and vector stores: documents become passages, and passages become part of a prompt."""
