"""What a run leaves behind: its record, its analyses, its pictures, and the copy of it in MLflow."""
