"""A lean HTTP/1.1 client for one kind of request: a POST whose answer is streamed.

Sockets and TLS are asyncio's, the parsing is httptools'; ours is what lies between: pool, proxies, bounds, and a
cancellation that frees the socket at once. ``docs/decisions/http-library.md`` says why no ready client is used.
"""
