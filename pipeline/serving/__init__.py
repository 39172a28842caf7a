"""The server of a pushed model: what it takes, how it answers, and what it tells of itself."""
