"""Gymnasium environments, several together: one after the other, in processes, by EnvPool."""
