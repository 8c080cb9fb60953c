"""The OpenAPI 3.1 document of every address that serving answers, made from the products' files.

The page that shows it is docs_page.py.
"""

from collections.abc import Mapping
from typing import Any

from configs.load import Project
from configs.products import ModelProduct
from serving.inference_service import SERVER_VERSION
from serving.open_inference import DATATYPES, IS_NULL, ProductTensors, TensorMetadata
from serving.open_inference_json import tensor_object

Json = dict[str, Any]
_FIELD_SCHEMAS: Mapping[str, Json] = {
    "string": {"type": "string", "maxLength": 200},
    "int64": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float64": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time", "description": "ISO 8601 with an offset."},
}
_EXAMPLES: Mapping[str, Any] = {
    "string": "a text",
    "int64": 1,
    "float64": 1.0,
    "boolean": True,
    "timestamp": "2013-10-01T14:00:00Z",
}
_REFUSALS: Mapping[str, str] = {
    "401": "No key, or one that is not valid.",
    "403": "The key does not allow this.",
    "404": "There is no such address, model or version.",
    "405": "Another method is needed.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "The request is wrong; `errors` names each field.",
    "429": "Too many requests with this key; see Retry-After.",
    "500": "A bug; the log has its trace.",
    "503": "The endpoint is overloaded, or cannot answer now; see Retry-After.",
    "504": "The endpoint took too long.",
}
_ASKING = ("401", "403", "404", "405", "413", "422", "429", "500", "503", "504")
_LOOKING = ("401", "403", "404", "405", "429", "500", "503", "504")
_OPEN = ("404", "405", "500")


def openapi_document(project: Project) -> Json:
    """The document: products' own endpoints, KServe V1 and Open Inference Protocol V2, with every status."""
    paths: Json = {}
    schemas = dict(_SHARED_SCHEMAS)
    for product in project.products.values():
        schemas |= _product_schemas(product)
        paths |= _native_paths(product) | _v1_paths(product) | _v2_paths(product)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mlway",
            "version": SERVER_VERSION,
            "description": "Predictions of every product. Errors are problem details (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": paths | _server_paths(),
        "components": {
            "schemas": schemas,
            "responses": {status: _refusal(status) for status in _REFUSALS},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _product_schemas(product: ModelProduct) -> Json:
    fields = product.population.request
    properties = {name: _field(kind, nullable=name != product.population.event_time) for name, kind in fields.items()}
    limits = {"minItems": 1, "maxItems": product.endpoint.max_instances}
    instance = _object(properties, list(fields)) | {
        "additionalProperties": False,
        "example": {name: _EXAMPLES[kind] for name, kind in fields.items()},
    }
    instances = {"type": "array", "items": _schema(f"{product.name}.instance"), **limits}
    tensors = ProductTensors(product)
    return {
        f"{product.name}.instance": instance,
        f"{product.name}.instances": _object({"instances": instances}, ["instances"]) | {"additionalProperties": False},
        f"{product.name}.infer": _infer_schema(tensors),
    }


def _infer_schema(tensors: ProductTensors) -> Json:
    names = [name for metadata in tensors.inputs for name in (metadata.name, metadata.name + IS_NULL)]
    described = ", ".join(f"{metadata.name} ({metadata.datatype})" for metadata in tensors.inputs)
    tensor = _object(
        {
            "name": {"enum": names},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"enum": list(DATATYPES)},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        ["name", "shape", "datatype", "data"],
    )
    wanted = _object({"name": {"enum": _names(tensors.outputs)}, "parameters": {"type": "object"}}, ["name"])
    properties = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": tensor | {"additionalProperties": False}, "minItems": len(tensors.inputs)},
        "outputs": {"type": "array", "items": wanted | {"additionalProperties": False}},
    }
    columns = {name: [_EXAMPLES[kind]] for name, kind in tensors.fields.items()}
    return _object(properties, ["inputs"]) | {
        "additionalProperties": False,
        "description": f"Tensors of shape [N] or [N, 1]: {described}. The BOOL tensor FIELD{IS_NULL} marks nulls.",
        "example": {"inputs": [tensor_object(tensor) for tensor in tensors.tensors(columns)]},
    }


def _native_paths(product: ModelProduct) -> Json:
    tag, instances = product.name, f"{product.name}.instances"
    status = _ok("Which model answers.", _schema("status"))
    return {
        f"{product.route}/predict": {
            "post": _operation(tag, "predict", product.description, _ok("Scores.", _schema("predictions")), _ASKING)
            | _json_body(instances)
        },
        f"{product.route}/model": {"get": _operation(tag, "model", "Which version answers.", status, _LOOKING)},
        f"{product.route}/health": {"get": _operation(tag, "health", "Whether the replica lives.", status, _LOOKING)},
        f"{product.route}/ready": {"get": _operation(tag, "ready", "Whether it answers.", status, _LOOKING)},
    }


def _v1_paths(product: ModelProduct) -> Json:
    tag, path = product.name, f"/v1/models/{product.name}"
    scores, ready = _ok("Scores.", _schema("predictions")), _ok("It answers.", _schema("model_ready"))
    return {
        f"{path}:predict": {
            "post": _operation(tag, "v1_predict", "As /predict, by KServe's V1 protocol.", scores, _ASKING)
            | _json_body(f"{product.name}.instances")
        },
        path: {"get": _operation(tag, "v1_ready", "Whether it answers, by KServe's V1 protocol.", ready, _LOOKING)},
    }


def _v2_paths(product: ModelProduct) -> Json:
    paths: Json = {}
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    for suffix, mark, given in (("", "", []), ("/versions/{version}", "_version", [version])):
        path = f"/v2/models/{product.name}{suffix}"
        operations = {
            path: _v2_look(product, f"v2_model{mark}", "What its tensors are.", "model_metadata"),
            f"{path}/ready": _v2_look(product, f"v2_ready{mark}", "Whether it answers.", "model_ready"),
            f"{path}/infer": {"post": _v2_infer(product, f"v2_infer{mark}")},
        }
        paths |= {path: item | ({"parameters": given} if given else {}) for path, item in operations.items()}
    return paths


def _v2_look(product: ModelProduct, name: str, summary: str, schema: str) -> Json:
    return {"get": _operation(product.name, name, summary, _ok(summary, _schema(schema)), _LOOKING)}


def _v2_infer(product: ModelProduct, name: str) -> Json:
    summary, answered = "As /predict, by the Open Inference Protocol.", _ok("Tensors.", _schema("infer_answer"))
    operation = _operation(product.name, name, summary, answered, (*_ASKING, "415"))
    return operation | _json_body(f"{product.name}.infer")


def _server_paths() -> Json:
    def look(name: str, summary: str, answered: Json, statuses: tuple[str, ...] = _OPEN) -> Json:
        return {"get": _operation("server", name, summary, answered, statuses)}

    state = _object({"live": {"type": "boolean"}, "ready": {"type": "boolean"}}, ["live"])
    models = _object({"models": {"type": "array", "items": {"type": "string"}}}, ["models"])
    page = {"200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "/v1/models": look("v1_models", "Every model.", _ok("Names.", models)),
        "/v2": look("v2_server", "What this server is.", _ok("Its name and version.", _schema("server"))),
        "/v2/health/live": look("v2_live", "Whether the server lives.", _ok("It does.", state)),
        "/v2/health/ready": look("v2_ready", "Whether every model answers.", _ok("They do.", state), (*_OPEN, "503")),
        "/openapi.json": look("openapi", "This document.", _ok("OpenAPI 3.1.", {"type": "object"})),
        "/docs": look("docs", "This document as a page.", page),
    }


def _operation(tag: str, name: str, summary: str, answered: Json, statuses: tuple[str, ...]) -> Json:
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    return {"operationId": f"{tag}.{name}", "tags": [tag], "summary": summary, "responses": answered | refused}


def _json_body(schema: str) -> Json:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(schema)}}}}


def _ok(description: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": {"application/json": {"schema": schema}}}}


def _refusal(status: str) -> Json:
    answer: Json = {
        "description": _REFUSALS[status],
        "content": {"application/problem+json": {"schema": _schema("problem")}},
    }
    if status in ("429", "503"):
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
    return answer


def _field(kind: str, *, nullable: bool) -> Json:
    schema = dict(_FIELD_SCHEMAS[kind])
    return schema | {"type": [schema["type"], "null"]} if nullable else schema


def _object(properties: Json, required: list[str]) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _names(metadata: tuple[TensorMetadata, ...]) -> list[str]:
    return [one.name for one in metadata]


_TEXTS: Json = {"type": "array", "items": {"type": "string"}}
_NUMBER: Json = {"type": "number"}
_MODEL: Json = _object({"name": {"type": "string"}, "version": {"type": "integer"}}, ["name"])
_TENSOR: Json = _object(
    {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"enum": list(DATATYPES)},
    },
    ["name", "shape", "datatype"],
)
_SHARED_SCHEMAS: Json = {
    "problem": _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "error": {"type": "string", "description": "The same as `detail`, under V1 and V2."},
            "errors": {
                "type": "array",
                "items": _object({"pointer": {"type": "string"}, "detail": {"type": "string"}}, ["pointer", "detail"]),
            },
        },
        ["type", "title", "status", "detail"],
    ),
    "predictions": _object(
        {
            "model": _MODEL,
            "decision_id": {"type": "string"},
            "degraded": _TEXTS,
            "predictions": {
                "type": "array",
                "items": _object({"score": _NUMBER, "lower": _NUMBER, "upper": _NUMBER, "missing": _TEXTS}, ["score"]),
            },
        },
        ["model", "predictions"],
    ),
    "status": _object({"model": _MODEL}, ["model"]),
    "server": _object({"name": {"type": "string"}, "version": {"type": "string"}, "extensions": _TEXTS}, ["name"]),
    "model_ready": _object({"name": {"type": "string"}, "ready": {"type": "boolean"}}, ["name", "ready"]),
    "model_metadata": _object(
        {
            "name": {"type": "string"},
            "versions": _TEXTS,
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {"type": "array", "items": _TENSOR},
        },
        ["name", "platform", "inputs", "outputs"],
    ),
    "infer_answer": _object(
        {
            "model_name": {"type": "string"},
            "model_version": {"type": "string", "description": "A registered version's number, or `baseline`."},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {
                "type": "array",
                "items": _TENSOR | {"properties": _TENSOR["properties"] | {"data": {"type": "array"}}},
            },
        },
        ["model_name", "model_version", "outputs"],
    ),
}
