"""Two users of a namespace: one who may approve its generations, one who may only patch them."""

import pytest
from demo.kubectl import DemoError
from e2e.owner import until
from e2e.small_example import Raw, SmallExample

AUTHOR, APPROVER = "author", "approver"
VERBS = {AUTHOR: ["get", "patch"], APPROVER: ["get", "patch", "approve"]}
GENERATIONS = "modelgenerations.springtide.dev"
PATCH = '--patch={"spec": {"approval": {"decision": "Approved", "reason": "checked"}}}'


def approve(example: SmallExample, generation: str) -> None:
    """Approve a generation once it waits for it: the author is refused, the approver is not."""
    until(lambda: _waits(example, generation), f"{generation} waits for an approval", seconds=180)
    example.kubectl.apply([each for user in VERBS for each in _rights(example, user)])
    for user in VERBS:
        until(lambda user=user: _may_patch(example, user), f"{user} may patch generations")
    change = ("patch", f"mg/{generation}", "--type=merge", PATCH)
    with pytest.raises(DemoError, match=f"{AUTHOR} needs the verb approve on {GENERATIONS}"):
        example.show(*change, f"--as={AUTHOR}")
    assert _waits(example, generation)
    example.show(*change, f"--as={APPROVER}")


def _waits(example: SmallExample, generation: str) -> bool:
    phase = example.get(f"mg/{generation}").get("status", {}).get("phase")
    return phase == "AwaitingApproval"


def _rights(example: SmallExample, user: str) -> list[Raw]:
    group = "rbac.authorization.k8s.io"
    metadata = {"name": user, "namespace": example.namespace}
    rule = {
        "apiGroups": ["springtide.dev"],
        "resources": ["modelgenerations"],
        "verbs": VERBS[user],
    }
    binding = {
        "roleRef": {"apiGroup": group, "kind": "Role", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    return [
        {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, **body}
        for kind, body in (("Role", {"rules": [rule]}), ("RoleBinding", binding))
    ]


def _may_patch(example: SmallExample, user: str) -> bool:
    try:
        return example.show("auth", "can-i", "patch", GENERATIONS, f"--as={user}").strip() == "yes"
    except DemoError:  # exit code 1 is no
        return False
