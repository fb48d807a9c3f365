"""The first stage of WS^2: tags to initial masks (section 3.1)."""
