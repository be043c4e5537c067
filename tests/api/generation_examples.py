"""Examples of the rules on a generation: of its spec's own blocks, and of its status."""

from api.example import ABSENT, Example, hub, inside

DIGEST = "sha256:" + 64 * "a"
EXCLUDED = {"excludedGenerations": [4, 6], "excludedRows": 1200}
DATA = {"manifest": "file:///models/data", "digest": DIGEST, **EXCLUDED}
ADAPTER = {"uri": "file:///models/adapter", "digest": DIGEST, "base": DIGEST}
BUFFER = {"uri": "file:///models/buffer", "digest": DIGEST}
PARENT = {"name": "ranker-g0", "digest": DIGEST}
APPROVED = {"approval": {"decision": "Approved", "reason": "checked"}}
TRAINED = {"origin": "Trained", "initial": ABSENT, "parent": PARENT, "data": DATA}

SPEC = [
    Example(
        "",
        "the spec of a generation is immutable but for approval",
        {},
        {"recipe.model.maxLength": 64},
        before={},
    ),
    Example(
        "",
        "the spec of a generation is immutable but for approval",
        {},
        {"imageDigest": DIGEST},
        before={},
    ),
    Example(
        "",
        "the spec of a generation is immutable but for approval",
        {"imageDigest": DIGEST},
        {"imageDigest": ABSENT},
        before={"imageDigest": DIGEST},
    ),
    Example(
        "",
        "approval is final: it can be set once",
        {**TRAINED, **APPROVED},
        {"approval": {"decision": "Rejected"}},
        before={**TRAINED, **APPROVED},
    ),
    Example(
        "",
        "an imported generation needs no approval",
        {**TRAINED, **APPROVED},
        APPROVED,
    ),
    Example(
        "",
        "set initial if and only if origin is Imported",
        {},
        {"initial": ABSENT},
    ),
    Example(
        "",
        "set data if and only if origin is Trained",
        TRAINED,
        {**TRAINED, "data": ABSENT},
    ),
    Example(
        "",
        "a generation with origin Trained needs parent",
        TRAINED,
        {key: value for key, value in TRAINED.items() if key != "parent"},
    ),
    inside("data.manifest", "file:///models/", TRAINED),
    inside("data.historical[]", "file:///models/", {**TRAINED, "data.historical": []}),
    inside("data.buffer.uri", "file:///models/", {**TRAINED, "data.buffer": BUFFER}),
    inside(
        "continuation.adapter.uri",
        "file:///models/",
        {**TRAINED, "continuation": {"adapter": ADAPTER}},
    ),
    inside("initial.uri", "file:///models/"),
    hub("initial.uri"),
]

ARTIFACT = {"uri": "file:///models/a", "weightsDigest": DIGEST, "servedDigest": DIGEST}
TARGET = {"name": "ranker", "container": "server"}
LOOK = {"digest": DIGEST, "range": {"to": "2026-02-01T00:00:00Z"}}

STATUS = [
    inside("artifact.uri", "file:///models/", {"artifact": ARTIFACT}),
    inside("artifact.buffer.uri", "file:///models/", {"artifact": {**ARTIFACT, "buffer": BUFFER}}),
    inside(
        "artifact.adapter.uri", "file:///models/", {"artifact": {**ARTIFACT, "adapter": ADAPTER}}
    ),
    inside("evaluation.report", "file:///models/", {"evaluation": {"job": "j"}}),
    inside(
        "evaluation.holdouts[].manifest",
        "file:///models/",
        {"evaluation": {"job": "j", "holdouts": [LOOK]}},
    ),
    Example(
        "rollout.targets[].env",
        "uri and digest must be different variables",
        {"rollout": {"targets": [TARGET]}},
        {"rollout": {"targets": [{**TARGET, "env": {"uri": "MODEL", "digest": "MODEL"}}]}},
    ),
]
