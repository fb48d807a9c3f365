"""What people corrected, out of the formats of other tools, a module a tool."""
