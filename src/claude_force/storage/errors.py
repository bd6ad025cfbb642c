"""What can be wrong with a place to store things."""

from __future__ import annotations

from claude_force.domain.errors import ClaudeForceError


class StorageError(ClaudeForceError):
    """A file or database cannot be used. The message names it and the way out."""

    kind = "storage"


class ForeignFileError(StorageError):
    """Something that this package did not write is where its file should be. It is left as it is."""

    kind = "foreign_file"
