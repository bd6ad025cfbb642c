"""Marks what of a prompt the provider should keep, and lets calls that share it take their turns."""
