"""Optimizers and gradients of our own: only where measurably faster, and of the same arithmetic."""
