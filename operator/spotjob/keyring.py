"""Loads the HMAC keys that sign and verify tokens from a mounted folder."""
