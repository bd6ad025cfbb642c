"""Answers to similar tasks: what is similar, what forbids it all the same, and where that is kept."""
