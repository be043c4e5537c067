"""The small example without a claim: its data, models and storage are in an object store."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from e2e import small_model
from e2e.small_example import Raw, SmallExample
from local_cluster.object_store import ObjectStore

SECRET_NAME = "object-store"
ACCOUNT = "ranker"
"""The service account of the Jobs."""


@dataclass(frozen=True, kw_only=True)
class StoreExample(SmallExample):
    """An update whose pods and servers reach a bucket with the credentials of a Secret."""

    store: ObjectStore

    @property
    def bucket(self) -> str:
        """The bucket of the namespace."""
        return f"s3://{self.namespace}"

    def objects(self) -> dict[str, Raw]:
        """Return Deployment, Service and IncrementalUpdate without a claim."""
        made = super().objects()
        _serve_from_the_store(made["Deployment"]["spec"]["template"]["spec"])
        spec = made["IncrementalUpdate"]["spec"]
        spec["model"]["initial"]["uri"] = f"{self.bucket}/models/tiny"
        spec["data"]["source"]["uri"] = f"{self.bucket}/data"
        spec["data"] |= {"secretName": SECRET_NAME, "serviceAccountName": ACCOUNT}
        del spec["data"]["volume"]
        spec["storage"] = {"uri": f"{self.bucket}/storage"}
        return made

    def deliver(self, file: str, content: bytes) -> None:
        """Upload a month's file."""
        self.store.put(f"{self.bucket}/data/{file}", content)

    def files(self, uri: str) -> Path:
        """Return the folder of this machine with the files of a committed folder."""
        return self.store.committed(uri)

    def _open_storage(self, *, shared: bool) -> None:
        """Create the namespace with Secret and service account, and the bucket."""
        self.store.empty_bucket(self.namespace)
        secret = self._object("Secret", SECRET_NAME) | {"stringData": self.store.environment}
        account = self._object("ServiceAccount", ACCOUNT)
        self.kubectl.apply([*self._examples_of("10-namespace"), secret, account])

    def _publish(self, *, head: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            small_model.publish(Path(folder), head=head)
            for file in Path(folder).iterdir():
                self.store.put(f"{self.bucket}/models/tiny/{file.name}", file)

    def _object(self, kind: str, name: str) -> Raw:
        metadata = {"name": name, "namespace": self.namespace}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _serve_from_the_store(pod: Raw) -> None:
    """Take the claim from a server, and give it the Secret, as the documentation says."""
    (container,) = pod["containers"]
    container["envFrom"] = [{"secretRef": {"name": SECRET_NAME}}]
    pod["volumes"] = [each for each in pod["volumes"] if "persistentVolumeClaim" not in each]
    kept = {each["name"] for each in pod["volumes"]}
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] in kept]
