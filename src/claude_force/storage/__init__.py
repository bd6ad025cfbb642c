"""Floor 1: private files, and SQLite databases that are opened, recognised and migrated the same way everywhere."""
