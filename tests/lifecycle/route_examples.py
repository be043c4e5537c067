"""HTTPRoutes as their owners write them."""

from springtide_operator.lifecycle.routes.observed import Backend, ObservedRoute


def route(*rules, **fields):
    """A route of namespace search; each rule maps the name of a Service to its weight."""
    backends = tuple(
        Backend(rule, index, name, weight, port=80)
        for rule, weights in enumerate(rules)
        for index, (name, weight) in enumerate(weights.items())
    )
    made = {"name": "shop", "namespace": "search", "uid": "route-uid", "backends": backends}
    return ObservedRoute(**{**made, **fields})


AT_REST = {"ranker": 100, "ranker-canary": 0}
