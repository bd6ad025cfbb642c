"""Floor 2: answers that were paid for once, found again by the exact content of their request."""
