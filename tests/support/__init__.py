"""What several tests share: things to train, and ways to look at what was trained."""
