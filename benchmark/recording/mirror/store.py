"""The store: a client of MLflow, its database, the experiment that the runs are in."""

from pathlib import Path
from typing import Any

from benchmark.recording.mirror.progress import hold

EXPERIMENT = "dit-generalization-bench"
SQLITE = "sqlite:///"


def connect(store: str) -> tuple[Any, str]:
    """Return a client and the id of our experiment; make the database and the experiment where they are missing."""
    from mlflow import MlflowClient

    if not store.startswith(SQLITE):
        client = MlflowClient(store)
        return client, _experiment(client, None)
    path = Path(store.removeprefix(SQLITE)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path.with_name(path.name + "-lock")):  # processes that create it at the same time crash each other
        if not path.exists():
            _create_database(path)
        client = MlflowClient(store)
        return client, _experiment(client, (path.parent / "mlartifacts").as_uri())


def find(client: Any, experiment: str, token: str) -> Any:
    """Return the MLflow run that mirrors a run, by its token, or None."""
    return next(iter(client.search_runs([experiment], f"tags.mirror = '{token}'", max_results=1)), None)


def _create_database(path: Path) -> None:
    """Create the tables under another name first, so that a kill on the way leaves no half database."""
    from mlflow import MlflowClient

    new = path.with_name(path.name + "-new")
    for left in path.parent.glob(new.name + "*"):
        left.unlink()
    MlflowClient(f"{SQLITE}{new}").search_experiments(max_results=1)
    new.replace(path)


def _experiment(client: Any, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(EXPERIMENT):
        return _active(client, found)
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException:
        if found := client.get_experiment_by_name(EXPERIMENT):  # another process was first
            return _active(client, found)
        raise


def _active(client: Any, experiment: Any) -> str:
    """Return the id of our experiment; restore it, and its runs, where it was deleted in MLflow's pages."""
    from mlflow.exceptions import MlflowException

    number = experiment.experiment_id
    if experiment.lifecycle_stage == "deleted":
        try:
            client.restore_experiment(number)
        except MlflowException as problem:
            raise MlflowException(
                f"its experiment {EXPERIMENT} was deleted and cannot be restored ({problem}). `mlflow experiments restore "
                f"--experiment-id {number}` restores it; `mlflow gc` removes it for good; or name another `store=...`"
            ) from None
    return number
