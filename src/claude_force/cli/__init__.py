"""Floor 6: the command line. Thin: parse, call the API, render."""
