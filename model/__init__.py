"""What the site has learnt: emotions, faces and the networks that read them."""
