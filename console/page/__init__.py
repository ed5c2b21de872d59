"""The page: server-rendered, for a browser that signed in with a token."""
