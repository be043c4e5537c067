"""HTTPRoutes and Services as an owner writes them."""

BOTH = ({"name": "ranker", "port": 80, "weight": 100}, {"name": "ranker-canary", "port": 80})


def route(namespace, name="shop", backends=BOTH, canary_weight=0):
    refs = [dict(each) for each in backends]
    if len(refs) > 1:
        refs[1].setdefault("weight", canary_weight)
    spec = {"hostnames": ["shop.test"], "rules": [{"backendRefs": refs}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    }


def service(namespace, name="ranker", **labels):
    ports = [{"name": "http", "port": 80, "targetPort": 8000, "appProtocol": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"selector": {"app": name}, "ports": ports},
    }
