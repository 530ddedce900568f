"""The laptop platform: a real API server, a simulated EC2, real containers."""
