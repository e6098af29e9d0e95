"""Replay memory that is read and written without a detour."""
