"""Floor 3: the way of one call, as layers around one method."""
