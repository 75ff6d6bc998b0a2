"""What the site has: a playlist for each emotion."""
