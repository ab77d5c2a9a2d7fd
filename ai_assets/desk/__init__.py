"""The sign-off desk: the web application in which people look at what would go live, and decide."""
