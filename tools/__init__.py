"""Scripts that make files of the packages."""
