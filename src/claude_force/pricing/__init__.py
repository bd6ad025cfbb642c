"""Floor 2: what tokens cost."""
