"""Runs into MLflow: what is copied, into which store, by a process of its own. Nothing else imports mlflow."""
