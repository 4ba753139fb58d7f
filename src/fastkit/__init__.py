"""fastkit."""
