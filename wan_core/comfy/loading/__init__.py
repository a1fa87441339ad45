"""From files to a MODEL that is ready to sample."""
