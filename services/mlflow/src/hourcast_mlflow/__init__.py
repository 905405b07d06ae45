"""MLflow's server on MySQL and S3, and the setup of what Hourcast needs around it."""

__all__: list[str] = []
