"""The schemas of the OpenAPI document: what each product asks for, and what is answered. Paths are in openapi.py."""

from collections.abc import Mapping
from typing import Any

from configs.products import ModelProduct
from serving.messages import MOST_CANDIDATES
from serving.open_inference import DATATYPES, IS_NULL, ProductTensors, TensorMetadata
from serving.open_inference_json import tensor_object
from serving.training_requests import MOST_REASON

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
_EXPLAIN: Json = {"type": "boolean", "default": False, "description": "With what each feature added to the score."}


def product_schemas(product: ModelProduct) -> Json:
    """What the product's requests are made of, by names that begin with its own."""
    fields = product.population.request
    properties = {name: _field(kind, nullable=name != product.population.event_time) for name, kind in fields.items()}
    limits = {"minItems": 1, "maxItems": product.endpoint.max_instances}
    instance = object_schema(properties, list(fields)) | {
        "additionalProperties": False,
        "example": {name: _EXAMPLES[kind] for name, kind in fields.items()},
    }
    asked = {
        "instances": {"type": "array", "items": schema_ref(f"{product.name}.instance"), **limits},
        "explain": _EXPLAIN,
    }
    tensors = ProductTensors(product)
    return {
        f"{product.name}.instance": instance,
        f"{product.name}.instances": object_schema(asked, ["instances"]) | {"additionalProperties": False},
        f"{product.name}.infer": _inferschema_ref(tensors),
        **({f"{product.name}.ranking": _rankingschema_ref(product)} if product.task == "ranking" else {}),
    }


def _rankingschema_ref(product: ModelProduct) -> Json:
    """What the fields of a candidate are depends on those of the context: together they are an instance's."""
    fields = product.population.request
    some = object_schema({name: _field(kind, nullable=True) for name, kind in fields.items()}, [])
    properties = {
        "context": some | {"description": "Fields that all candidates share."},
        "candidates": {"type": "array", "items": some, "minItems": 1, "maxItems": MOST_CANDIDATES},
        "top_k": {"type": ["integer", "null"], "minimum": 1, "description": "How many of the best; null: all."},
        "explain": _EXPLAIN,
    }
    example = {name: _EXAMPLES[kind] for name, kind in fields.items()}
    first = next(iter(example))
    return object_schema(properties, ["candidates"]) | {
        "additionalProperties": False,
        "example": {
            "context": {name: value for name, value in example.items() if name != first},
            "candidates": [{first: example[first]}],
            "top_k": 1,
        },
    }


def _inferschema_ref(tensors: ProductTensors) -> Json:
    names = [name for metadata in tensors.inputs for name in (metadata.name, metadata.name + IS_NULL)]
    described = ", ".join(f"{metadata.name} ({metadata.datatype})" for metadata in tensors.inputs)
    tensor = object_schema(
        {
            "name": {"enum": names},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"enum": list(DATATYPES)},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        ["name", "shape", "datatype", "data"],
    )
    wanted = object_schema({"name": {"enum": _names(tensors.outputs)}, "parameters": {"type": "object"}}, ["name"])
    properties = {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": tensor | {"additionalProperties": False}, "minItems": len(tensors.inputs)},
        "outputs": {"type": "array", "items": wanted | {"additionalProperties": False}},
    }
    columns = {name: [_EXAMPLES[kind]] for name, kind in tensors.fields.items()}
    return object_schema(properties, ["inputs"]) | {
        "additionalProperties": False,
        "description": f"Tensors of shape [N] or [N, 1]: {described}. The BOOL tensor FIELD{IS_NULL} marks nulls.",
        "example": {"inputs": [tensor_object(tensor) for tensor in tensors.tensors(columns)]},
    }


def _field(kind: str, *, nullable: bool) -> Json:
    schema = dict(_FIELD_SCHEMAS[kind])
    return schema | {"type": [schema["type"], "null"]} if nullable else schema


def object_schema(properties: Json, required: list[str]) -> Json:
    """A JSON object."""
    return {"type": "object", "properties": properties, "required": required}


def schema_ref(name: str) -> Json:
    """The schema of this name, by reference."""
    return {"$ref": f"#/components/schemas/{name}"}


def _names(metadata: tuple[TensorMetadata, ...]) -> list[str]:
    return [one.name for one in metadata]


_TEXTS: Json = {"type": "array", "items": {"type": "string"}}
_NUMBER: Json = {"type": "number"}
_MODEL: Json = object_schema({"name": {"type": "string"}, "version": {"type": "integer"}}, ["name"])
_HEAD: Json = {
    "decision": {"type": "string", "description": "Id in the decision log."},
    "model": _MODEL,
    "degraded": _TEXTS,
}
_PREDICTION: Json = {
    "score": _NUMBER,
    "lower": _NUMBER,
    "upper": _NUMBER,
    "missing": _TEXTS,
    "explanation": {"type": "object"},
}
_TENSOR: Json = object_schema(
    {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"enum": list(DATATYPES)},
    },
    ["name", "shape", "datatype"],
)
SHARED_SCHEMAS: Json = {
    "training": object_schema(
        {"reason": {"type": "string", "minLength": 1, "maxLength": MOST_REASON, "description": "Kept with the run."}},
        ["reason"],
    )
    | {"additionalProperties": False, "example": {"reason": "new routes"}},
    "training_request": object_schema(
        {"request": {"type": "string"}, "product": {"type": "string"}, "reason": {"type": "string"}},
        ["request", "product", "reason"],
    ),
    "problem": object_schema(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "error": {"type": "string", "description": "The same as `detail`, under V1 and V2."},
            "errors": {
                "type": "array",
                "items": object_schema(
                    {"pointer": {"type": "string"}, "detail": {"type": "string"}}, ["pointer", "detail"]
                ),
            },
        },
        ["type", "title", "status", "detail"],
    ),
    "predictions": object_schema(
        _HEAD | {"predictions": {"type": "array", "items": object_schema(_PREDICTION, ["score"])}},
        ["decision", "model", "predictions"],
    ),
    "ranking": object_schema(
        _HEAD
        | {
            "ranking": {
                "type": "array",
                "items": object_schema(_PREDICTION | {"candidate": {"type": "integer"}}, ["candidate", "score"]),
            }
        },
        ["decision", "model", "ranking"],
    ),
    "status": object_schema(
        {"model": _MODEL, "status": {"type": "string"}, "digest": {"type": ["string", "null"]}}, ["model"]
    ),
    "server": object_schema(
        {"name": {"type": "string"}, "version": {"type": "string"}, "extensions": _TEXTS}, ["name"]
    ),
    "model_ready": object_schema({"name": {"type": "string"}, "ready": {"type": "boolean"}}, ["name", "ready"]),
    "model_metadata": object_schema(
        {
            "name": {"type": "string"},
            "versions": _TEXTS,
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": {"type": "array", "items": _TENSOR},
        },
        ["name", "platform", "inputs", "outputs"],
    ),
    "infer_answer": object_schema(
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
