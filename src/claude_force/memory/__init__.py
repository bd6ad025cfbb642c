"""Floor 2: what agents remember of earlier tasks, and how it is found again."""
