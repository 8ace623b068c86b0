"""The endpoints, which are MCP tools too."""
