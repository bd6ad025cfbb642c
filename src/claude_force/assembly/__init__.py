"""The only place where parts are built from settings and wired together.

What a part needs is imported when it is built: a command that lists agents loads no HTTP library.
"""
