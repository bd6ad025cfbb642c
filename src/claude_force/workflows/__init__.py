"""Floor 4: graphs of agents."""
