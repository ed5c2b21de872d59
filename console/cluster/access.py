"""How the console comes by Kubernetes' API: a kubeconfig, or the service account of the pod it runs in."""

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import Code, ServiceError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient


IN_CLUSTER = "in-cluster"
"""Instead of a kubeconfig's path: the cluster whose pod this process runs in."""


def connect(kubeconfig: str | Path, context: str | None = None) -> "ApiClient":
    """A client of the cluster that a kubeconfig names, under its current or another `context`.

    To be called off the event loop: a kubeconfig may name a program that brings a token, which is run here.
    `in-cluster` is the cluster whose pod this process runs in. Nothing is sent yet. Nothing is tried twice by
    itself: each call has one time limit, and callers say what to do about a failure. Raises
    `not_provisioned`.
    """
    # Imported where it is needed: it takes a third of a second, which every command would wait for.
    from kubernetes import config  # noqa: PLC0415
    from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415

    configuration = Configuration()
    configuration.retries = False
    configuration.keep_alive = True
    try:
        if kubeconfig == IN_CLUSTER:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(
                config_file=str(kubeconfig),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except Exception as error:  # whatever a file of any content makes of the loader
        raise _unusable(kubeconfig, error) from error
    return ApiClient(configuration)


def _unusable(kubeconfig: str | Path, error: Exception) -> ServiceError:
    if kubeconfig == IN_CLUSTER:
        return ServiceError(
            Code.NOT_PROVISIONED,
            f"there is no service account of Kubernetes to use here ({error}): name a kubeconfig, or run the "
            "console as a pod with one",
        )
    return ServiceError(
        Code.NOT_PROVISIONED,
        f"the kubeconfig {kubeconfig} cannot be used ({type(error).__name__}: {error}): "
        "`kubectl --kubeconfig FILE version` tells whether kubectl can use it",
    )
