"""SpotJob: one SpotJob object is one container on one EC2 Spot Instance."""

__version__ = "0.1.0"
