"""A pushed model's version in Vertex AI's model registry."""

from google.api_core.exceptions import NotFound
from google.cloud import aiplatform_v1 as vertex

from components.google_cloud.calls import STEP_ROLE, ensure_made, list_pages, make_client
from components.google_cloud.endpoint_target import BASE_PATH_FLAG, PREBUILT, EndpointTarget

PUSH_LABEL = "push"
"""Label of a version: which push made it."""

TENSORFLOW_SERVING_PORT = 8501

UPLOAD_SECONDS = 1800.0


def ensure_version(target: EndpointTarget, model_uri: str, push: str) -> vertex.Model:
    """Returns this push's version of the model, uploaded unless an earlier try has done it.

    A version cannot be given an id. Where an upload's answer was lost while it is still under way, the next try may
    upload a second version, which is deployed nowhere and costs nothing but its line in the registry.

    Args:
        target: names the model and its server.
        model_uri: `gs://` folder that the server gets.
        push: the push's own label.

    Raises:
        UserError | CloudFault: as `call`.
    """
    models = make_client(vertex.ModelServiceClient, target.region)
    name = f"{target.parent}/models/{target.model_id}"
    upload = vertex.UploadModelRequest(parent=target.parent, model=_make_model(target, model_uri, push))
    doing = f"uploading model {target.model_id}"

    def find() -> vertex.Model | None:
        request = vertex.ListModelVersionsRequest(name=name, filter=f'labels.{PUSH_LABEL}="{push}"')
        pages = list_pages(models.list_model_versions, request, doing=doing, role=STEP_ROLE, expected=(NotFound,))
        try:
            found = [version for page in pages for version in page.models]
        except NotFound:  # It is the first version, and brings the model's id.
            upload.parent_model, upload.model_id = "", target.model_id
            return None
        upload.parent_model, upload.model_id = name, ""
        return next(iter(found), None)

    version: vertex.Model = ensure_made(
        find, models.upload_model, upload, doing=doing, seconds=UPLOAD_SECONDS, role=STEP_ROLE
    )
    return version


def _make_model(target: EndpointTarget, model_uri: str, push: str) -> vertex.Model:
    return vertex.Model(
        display_name=target.model_id,
        artifact_uri=model_uri,
        container_spec=_make_container(target),
        labels={**target.labels, PUSH_LABEL: push},
        encryption_spec=make_encryption(target),
    )


def _make_container(target: EndpointTarget) -> vertex.ModelContainerSpec:
    """Returns how the server is started and asked; what is left empty is Vertex AI's choice, which ours is told."""
    args: list[str] = []
    port, path = target.serving_port, ""
    if target.takes_versions:
        port, path = target.serving_port or TENSORFLOW_SERVING_PORT, f"/v1/models/{target.model_id}"
        # Of a flag that is given twice, the last counts; the image's own entry point gives the first ones.
        args = [f"--model_name={target.model_id}", f"{BASE_PATH_FLAG}=$(AIP_STORAGE_URI)", f"--rest_api_port={port}"]
    container = vertex.ModelContainerSpec(
        image_uri=target.serving_image,
        args=[*args, *target.serving_args],
        predict_route=target.predict_route or (path and f"{path}:predict"),
        health_route=target.health_route or path,
    )
    if port:
        container.ports = [vertex.Port(container_port=port)]
    return container


def takes_versions(version: vertex.Model) -> bool:
    """Says whether a version's server was given a folder of numbered versions, as `EndpointServer.takes_versions`."""
    return any(argument.startswith(f"{BASE_PATH_FLAG}=") for argument in version.container_spec.args)


def takes_files(version: vertex.Model) -> bool:
    """Says whether a version is served by the pipeline's own server, or by one that is asked as it is."""
    return not takes_versions(version) and PREBUILT not in version.container_spec.image_uri


def make_encryption(target: EndpointTarget) -> vertex.EncryptionSpec | None:
    """Returns the customer's key of what is stored, or None for Google's own."""
    return vertex.EncryptionSpec(kms_key_name=target.encryption_key) if target.encryption_key else None
