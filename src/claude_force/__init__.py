"""Runs teams of Claude agents that are defined in files."""
