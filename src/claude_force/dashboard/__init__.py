"""A page in the browser that shows what runs, what it takes and what it costs, while it happens."""
