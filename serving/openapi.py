"""The OpenAPI 3.1 document of every address that serving answers, made from the products' files.

The page that shows it is docs_page.py.
"""

from collections.abc import Mapping

from configs.load import Project
from configs.products import ModelProduct
from serving.inference_service import SERVER_VERSION
from serving.openapi_schemas import SHARED_SCHEMAS, Json, object_schema, product_schemas, schema_ref

_REFUSALS: Mapping[str, str] = {
    "400": "The body ended before it was whole.",
    "401": "No key, or one that is not valid.",
    "403": "The key does not allow this.",
    "404": "There is no such address, model or version.",
    "405": "Another method is needed.",
    "408": "The body did not come in time.",
    "409": "The baseline answers, which cannot be explained.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "The request is wrong; `errors` names each field.",
    "429": "Too many requests with this key; see Retry-After.",
    "500": "A bug; the log has its trace.",
    "503": "The endpoint is overloaded, or cannot answer now; see Retry-After.",
    "504": "The endpoint took too long.",
}
_ASKING = ("400", "401", "403", "404", "405", "408", "409", "413", "415", "422", "429", "500", "503", "504")
_TRAINING = ("400", "401", "403", "404", "405", "408", "413", "415", "422", "429", "500", "503", "504")
_LOOKING = ("401", "403", "404", "405", "429", "500", "503", "504")
_PROBING = ("404", "405", "500", "503", "504")
_OPEN = ("404", "405", "500")


def openapi_document(project: Project) -> Json:
    """The document: products' own endpoints, KServe V1 and Open Inference Protocol V2, with every status."""
    paths: Json = {}
    schemas = dict(SHARED_SCHEMAS)
    for product in project.products.values():
        schemas |= product_schemas(product)
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


def _native_paths(product: ModelProduct) -> Json:
    tag, instances = product.name, f"{product.name}.instances"
    status = _ok("Which model answers.", schema_ref("status"))
    ranked = _ok("Candidates, the best first.", schema_ref("ranking"))
    summary = "Put candidates in order."
    ranking = {"post": _operation(tag, "rank", summary, ranked, _ASKING) | _json_body(f"{tag}.ranking")}
    training = _operation(tag, "train", "Ask for a training.", _accepted(), _TRAINING) | _json_body("training")
    return {
        f"{product.route}/predict": {
            "post": _operation(tag, "predict", product.description, _ok("Scores.", schema_ref("predictions")), _ASKING)
            | _json_body(instances)
        },
        **({f"{product.route}/rank": ranking} if product.task == "ranking" else {}),
        f"{product.route}/train": {"post": training},
        f"{product.route}/model": {"get": _operation(tag, "model", "Which version answers.", status, _LOOKING)},
        f"{product.route}/health": {"get": _operation(tag, "health", "Whether the replica lives.", status, _PROBING)},
        f"{product.route}/ready": {"get": _operation(tag, "ready", "Whether it answers.", status, _PROBING)},
    }


def _v1_paths(product: ModelProduct) -> Json:
    tag, path = product.name, f"/v1/models/{product.name}"
    scores, ready = _ok("Scores.", schema_ref("predictions")), _ok("It answers.", schema_ref("model_ready"))
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
    return {"get": _operation(product.name, name, summary, _ok(summary, schema_ref(schema)), _LOOKING)}


def _v2_infer(product: ModelProduct, name: str) -> Json:
    summary, answered = "As /predict, by the Open Inference Protocol.", _ok("Tensors.", schema_ref("infer_answer"))
    operation = _operation(product.name, name, summary, answered, _ASKING)
    return operation | _json_body(f"{product.name}.infer")


def _server_paths() -> Json:
    def look(name: str, summary: str, answered: Json, statuses: tuple[str, ...] = _OPEN) -> Json:
        return {"get": _operation("server", name, summary, answered, statuses)}

    state = object_schema({"live": {"type": "boolean"}, "ready": {"type": "boolean"}}, ["live"])
    models = object_schema({"models": {"type": "array", "items": {"type": "string"}}}, ["models"])
    page = {"200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}}}
    return {
        "/v1/models": look("v1_models", "Every model.", _ok("Names.", models)),
        "/v2": look("v2_server", "What this server is.", _ok("Its name and version.", schema_ref("server"))),
        "/v2/health/live": look("v2_live", "Whether the server lives.", _ok("It does.", state)),
        "/v2/health/ready": look("v2_ready", "Whether every model answers.", _ok("They do.", state), (*_OPEN, "503")),
        "/openapi.json": look("openapi", "This document.", _ok("OpenAPI 3.1.", {"type": "object"})),
        "/docs": look("docs", "This document as a page.", page),
    }


def _operation(tag: str, name: str, summary: str, answered: Json, statuses: tuple[str, ...]) -> Json:
    refused = {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}
    return {"operationId": f"{tag}.{name}", "tags": [tag], "summary": summary, "responses": answered | refused}


def _json_body(schema: str) -> Json:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema_ref(schema)}}}}


def _ok(description: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": {"application/json": {"schema": schema}}}}


def _accepted() -> Json:
    schema = schema_ref("training_request")
    return {"202": {"description": "Taken down.", "content": {"application/json": {"schema": schema}}}}


def _refusal(status: str) -> Json:
    answer: Json = {
        "description": _REFUSALS[status],
        "content": {"application/problem+json": {"schema": schema_ref("problem")}},
    }
    if status in ("429", "503"):
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
    return answer
