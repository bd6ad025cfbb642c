"""Floor 1: settings, claude.json, paths, and the only reader of the environment."""
