"""What is on disk: written whole or not at all, read without running anything, compared."""
