"""Floor 2: classification of failures, retry policy, concurrency limits."""
