"""How the commands speak: what is watched at the terminal, in which words, and where what is saved goes."""
