"""Assignment and the four loss terms."""
