"""Agents: from Markdown files to definitions, and from a definition and a task to a request."""
