"""A hook-driven trainer on TorchRL."""
