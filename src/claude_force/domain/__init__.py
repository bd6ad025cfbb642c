"""Floor 0: frozen values, the error tree and events. Standard library only."""
