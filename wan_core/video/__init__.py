"""Video files: written, read, joined, with their sound."""
