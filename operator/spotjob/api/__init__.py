"""The REST API and the callback: a process of its own beside the operator."""
