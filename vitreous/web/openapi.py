"""The description of the explorer's API, as OpenAPI 3.1."""

from importlib.metadata import version

from vitreous.diagnostics.patch_masking import FILLS
from vitreous.imaging.geometry import MAX_PATCHES
from vitreous.web.explorer.interventions import MAX_HEADS

Operation = tuple[str, str, str, str]
"""Method, path, summary and what a success returns: "json", "bytes", "image", "text" or "nothing"."""

OPERATIONS: tuple[Operation, ...] = (
    ("get", "/api", "This description.", "json"),
    ("get", "/api/start", "Models, explanation methods, color tables and limits.", "json"),
    ("get", "/api/gallery", "Images of the data set, 200 at a time, with truth and prediction.", "json"),
    ("get", "/api/fingerprints/{weights}", "What identifies the weights that have made a result.", "json"),
    ("get", "/api/saved-view", "The page of a view that is saved as one file, without the view.", "text"),
    ("post", "/api/images", "Upload an image file as the body; it is checked by decoding it.", "json"),
    ("get", "/api/images/{image}", "Size and true label of an image.", "json"),
    ("get", "/api/images/{image}/pixels", "An image for display: PNG, or JPEG if it is large.", "image"),
    ("get", "/api/images/{image}/thumbnail", "A small version of an image of the data set.", "image"),
    ("post", "/api/clips", "Upload a clip as the body; it is checked by decoding it.", "json"),
    ("get", "/api/clips/{clip}", "Size and frames' times of a clip; frame 7 is the image {clip}-7.", "json"),
    ("post", "/api/clips/{clip}/classes", "Begin to predict a clip's classes over time.", "json"),
    ("post", "/api/clips/{clip}/video", "Begin to write a clip with maps, an MP4 file.", "json"),
    ("get", "/api/live", "The newest image of the server's camera or video; waits up to 20 s for one.", "json"),
    ("post", "/api/jobs", "Begin to compute attention, tokens, a map, or the doctor's findings.", "json"),
    ("get", "/api/jobs/{job}", "State, progress and description of a job; waits up to 20 s for a change.", "json"),
    ("delete", "/api/jobs/{job}", "Cancel a job, or forget its result.", "nothing"),
    ("get", "/api/jobs/{job}/data", "The arrays of a finished job, little-endian.", "bytes"),
    (
        "get",
        "/api/runs",
        "What has changed in the runs since the cursor `after`; waits up to 20 s for a change.",
        "json",
    ),
    ("get", "/api/runs/{run}/images/{image}", "One of the fixed images of a run.", "image"),
    ("post", "/api/runs/{run}/model", "Begin to load the newest weights of a run, as a job.", "json"),
    ("delete", "/api/session", "Forget the images and results of this browser.", "nothing"),
    ("get", "/healthz", "Whether the server is alive; needs no token.", "json"),
    ("get", "/metrics", "Counts for monitoring, in Prometheus' text format.", "text"),
)

QUERIES = {
    "/api/gallery": {
        "model": {"type": "integer", "minimum": 0},
        "order": {"enum": ["stored", "misclassified", "least-confident", "text"]},
        "class": {"type": "string"},
        "search": {
            "type": "string",
            "description": "a part of the name or of the class; of the order text: what the images are compared with",
        },
        "offset": {"type": "integer", "minimum": 0},
    },
    "/api/runs": {"after": {"type": "string", "description": "cursor of the last response"}},
    "/api/images": {"live": {"const": "1", "description": "an image of a camera: the session keeps the last few"}},
    "/api/clips/{clip}/classes": {"model": {"type": "integer", "minimum": 0}},
    "/api/live": {"after": {"type": "integer", "minimum": 0}},
    "/api/jobs/{job}": {"after": {"type": "integer", "minimum": 0}},
}

INTERVENTION = {
    "type": ["object", "null"],
    "description": "of attention, tokens or a map: what is changed of the input and of the model; attention then also "
    "says how the prediction changes (change), and its data end with the input that the model got (uint8)",
    "additionalProperties": False,
    "properties": {
        "masked": {
            "type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": MAX_PATCHES,
            "description": "numbers of the masked patches, row by row",
        },
        "fill": {
            "enum": list(FILLS), "default": "mean",
            "description": "what masked pixels become: the mean color, a blur, or the mean of their neighbors",
        },
        "heads": {
            "type": "array", "maxItems": MAX_HEADS, "description": "layer and head of each head that is switched off",
            "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
        },
        "target": {"type": ["string", "null"], "description": "whose score is compared, as in a map"},
    },
}  # fmt: skip

JOB = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "kind": {"enum": ["attention", "tokens", "map", "doctor"], "default": "attention"},
        "model": {"type": "integer", "minimum": 0, "default": 0},
        "image": {
            "type": "string",
            "description": "data-N of the data set, what an upload returned, or CLIP-N, a frame of a clip",
        },
        "method": {"type": "string", "description": "of a map: a name in /api/start"},
        "options": {"type": "object", "description": "of a map: options of the method, such as layer"},
        "target": {"type": ["string", "null"], "description": 'of a map: a class, or "cat - dog"'},
        "other": {"type": ["string", "null"], "description": "of colors: an image that shares their components"},
        "layer": {"type": "integer", "default": -1, "description": "of tokens: the block, counted from 0"},
        "query": {"type": ["array", "null"], "items": {"type": "number"}, "description": "x, y in pixels of the image"},
        "intervention": INTERVENTION,
    },
}

VIDEO = {
    "type": "object",
    "properties": {
        **{name: JOB["properties"][name] for name in ("model", "method", "options", "target")},
        "query": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "description": "x, y in pixels of the frames",
        },
        "opacity": {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
    },
}

BODIES = {
    "/api/images": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "/api/clips": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "/api/clips/{clip}/video": {"application/json": {"schema": VIDEO}},
    "/api/jobs": {"application/json": {"schema": JOB}},
}

MEDIA_TYPES = {
    "json": ("application/json",),
    "bytes": ("application/octet-stream",),
    "image": ("image/png", "image/jpeg"),
    "text": ("text/plain",),
}
STATUS = {
    ("post", "/api/images"): "201",
    ("post", "/api/clips"): "201",
    ("post", "/api/clips/{clip}/classes"): "202",
    ("post", "/api/clips/{clip}/video"): "202",
    ("post", "/api/jobs"): "202",
    ("post", "/api/runs/{run}/model"): "202",
}

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "what is wrong and what to do, in one line"}},
}
REFUSALS = {"401": "The token is missing.", "403": "The request is for another host, or from a page of another site."}


def describe_api() -> dict[str, object]:
    """Return the description as a JSON object."""
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation[1], {})[operation[0]] = describe_operation(*operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vitreous",
            "version": version("vitreous"),
            "description": "Errors below /api are JSON objects with one line, error; those with the status 429 or 503 "
            "say with Retry-After when to try again. A cookie that the first upload or job sets holds the session; its "
            "images and results are its own.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


def describe_operation(method: str, path: str, summary: str, content: str) -> dict[str, object]:
    """Describe one operation."""
    parameters: list[dict[str, object]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("/")
        if part.startswith("{")
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in QUERIES.get(path, {}).items()]
    success: dict[str, object] = {"description": summary}
    if content != "nothing":
        success["content"] = {media_type: {} for media_type in MEDIA_TYPES[content]}
    status = STATUS.get((method, path), "204" if content == "nothing" else "200")
    described: dict[str, object] = {"summary": summary, "responses": {status: success} | describe_errors(path)}
    if parameters:
        described["parameters"] = parameters
    if path in BODIES:
        described["requestBody"] = {"required": True, "content": BODIES[path]}
    return described


def describe_errors(path: str) -> dict[str, object]:
    """Describe the errors of a path: below /api each is JSON, the refusals of other paths are text."""
    if path.startswith("/api"):
        content: dict[str, object] = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        meanings = {**REFUSALS, "4XX": "The request can't be answered.", "5XX": "The server can't answer it now."}
    else:
        content, meanings = {"text/plain": {}}, REFUSALS
    return {status: {"description": meaning, "content": content} for status, meaning in meanings.items()}
