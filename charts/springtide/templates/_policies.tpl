{{/* Binds a policy in the namespaces that this release handles. Takes (list . "-suffix" "Deny"). */}}
{{- define "springtide.binding" -}}
{{- $root := index . 0 -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "springtide.outsideName" (list $root (index . 1)) }}
  labels: {{- include "springtide.labels" $root | nindent 4 }}
spec:
  policyName: {{ include "springtide.outsideName" (list $root (index . 1)) }}
  validationActions: [{{ index . 2 }}]
  {{- with include "springtide.namespaces" $root }}
  matchResources:
    namespaceSelector: {{- . | nindent 6 }}
  {{- end }}
{{- end -}}

{{/*
The rights on everything that an update makes the operator do in the name of its author. Each
expression asks the authorizer once: one question costs 350,000 of the 1,000,000 that one expression
may cost, and an update may have four targets. The message names the user and the object, since an
author of several updates cannot guess which of them it is.
*/}}
{{- define "springtide.authorsRights" -}}
# The operator creates Jobs in the namespace, from any image, with any claim of the namespace.
- expression: authorizer.group('batch').resource('jobs').namespace(request.namespace).check('create').allowed()
  reason: Forbidden
  message: {{ . }} starts Jobs in its namespace; you need the verb create on jobs.batch there
  messageExpression: >-
    {{ . | squote }} + ' starts Jobs in its namespace; ' + request.userInfo.username
    + ' needs the verb create on jobs.batch in namespace ' + request.namespace
# Its Jobs have all keys of the Secret as variables, and their code may be the author's.
- expression: >-
    !has(object.spec.data.secretName)
    || authorizer.group('').resource('secrets').namespace(request.namespace).name(object.spec.data.secretName).check('get').allowed()
  reason: Forbidden
  message: {{ . }} gives its Jobs the Secret of spec.data.secretName; you need the verb get on it
  messageExpression: >-
    {{ . | squote }} + ' gives its Jobs a Secret; ' + request.userInfo.username
    + ' needs the verb get on Secret ' + object.spec.data.secretName
    + ' in namespace ' + request.namespace
- expression: >-
    !has(object.spec.tracking) || !has(object.spec.tracking.secretName)
    || authorizer.group('').resource('secrets').namespace(request.namespace).name(object.spec.tracking.secretName).check('get').allowed()
  reason: Forbidden
  message: {{ . }} gives its Jobs the Secret of spec.tracking.secretName; you need the verb get on it
  messageExpression: >-
    {{ . | squote }} + ' gives its Jobs a Secret; ' + request.userInfo.username
    + ' needs the verb get on Secret ' + object.spec.tracking.secretName
    + ' in namespace ' + request.namespace
# Its Jobs run as the service account, with all that a cloud grants to it.
- expression: >-
    !has(object.spec.data.serviceAccountName)
    || authorizer.group('').resource('serviceaccounts').namespace(request.namespace).name(object.spec.data.serviceAccountName).check('impersonate').allowed()
  reason: Forbidden
  message: {{ . }} runs its Jobs as the service account of spec.data.serviceAccountName; you need the verb impersonate on it
  messageExpression: >-
    {{ . | squote }} + ' runs its Jobs as a service account; ' + request.userInfo.username
    + ' needs the verb impersonate on ServiceAccount ' + object.spec.data.serviceAccountName
    + ' in namespace ' + request.namespace
# The operator changes the pods of each target: the right is asked for each one by its name, so that
# a Role with resourceNames does.
{{- range $index := until 4 }}
- expression: >-
    size(object.spec.rollout.targets) <= {{ $index }}
    || authorizer.group('apps').resource('deployments').namespace(request.namespace).name(object.spec.rollout.targets[{{ $index }}].targetRef.name).check('patch').allowed()
  reason: Forbidden
  message: {{ $ }} changes the pods of its targets; you need the verb patch on the Deployment of spec.rollout.targets[{{ $index }}]
  messageExpression: >-
    {{ $ | squote }} + ' changes the pods of its targets; ' + request.userInfo.username
    + ' needs the verb patch on Deployment ' + object.spec.rollout.targets[{{ $index }}].targetRef.name
    + ' in namespace ' + request.namespace
# With traffic Gateway it changes weights of the route, too.
- expression: >-
    size(object.spec.rollout.targets) <= {{ $index }}
    || !has(object.spec.rollout.targets[{{ $index }}].httpRoute)
    || authorizer.group('gateway.networking.k8s.io').resource('httproutes').namespace(request.namespace).name(object.spec.rollout.targets[{{ $index }}].httpRoute).check('patch').allowed()
  reason: Forbidden
  message: {{ $ }} changes weights of its routes; you need the verb patch on the HTTPRoute of spec.rollout.targets[{{ $index }}]
  messageExpression: >-
    {{ $ | squote }} + ' changes weights of its routes; ' + request.userInfo.username
    + ' needs the verb patch on HTTPRoute ' + object.spec.rollout.targets[{{ $index }}].httpRoute
    + ' in namespace ' + request.namespace
{{- end }}
{{- end -}}

{{/*
Registries that trainer images may come from, as JSON: policy.imageRegistries, or else the one of
the chart's own trainer image; an empty list where neither names any.
*/}}
{{- define "springtide.registries" -}}
{{- $own := list -}}
{{- $first := splitList "/" .Values.trainer.repository | first -}}
{{- if and (contains "/" .Values.trainer.repository) (or (contains "." $first) (contains ":" $first) (eq $first "localhost")) -}}
{{- $own = list $first -}}
{{- end -}}
{{- .Values.policy.imageRegistries | default $own | toJson -}}
{{- end -}}
