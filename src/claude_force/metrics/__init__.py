"""Floor 2: what calls took and cost, kept in SQLite: recorder, roll-ups, queries, alerts."""
