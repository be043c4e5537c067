{{/*
Names end up in a Service and in labels: no dots, a letter first, which a release need not have, and
short enough for a suffix.
*/}}
{{- define "springtide.name" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "%s-%s" .Chart.Name .Release.Name -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 52 | trimAll "-" -}}
{{- end -}}

{{/*
Name of what lies outside the release's namespace: of cluster-wide objects, and of those in
watchNamespace. It ends with the release's namespace, after a dot that neither name may contain, so
that two releases of one name in two namespaces have different ones. Takes (list . "-suffix").
*/}}
{{- define "springtide.outsideName" -}}
{{- $root := index . 0 -}}
{{- printf "%s%s.%s" (include "springtide.name" $root) (index . 1) $root.Release.Namespace -}}
{{- end -}}

{{/* The label selector of the namespaces that this release handles, as YAML; empty: all of them. */}}
{{- define "springtide.namespaces" -}}
{{- $selector := .Values.watchNamespaceSelector | default dict -}}
{{- $given := dict -}}
{{- range $key := list "matchLabels" "matchExpressions" -}}
{{- with get $selector $key -}}{{- $_ := set $given $key . -}}{{- end -}}
{{- end -}}
{{- if and $given .Values.watchNamespace -}}
{{- fail "watchNamespace and watchNamespaceSelector are both set; set one of them" -}}
{{- end -}}
{{- with .Values.watchNamespace -}}
{{- $_ := set $given "matchLabels" (dict "kubernetes.io/metadata.name" .) -}}
{{- end -}}
{{- with $given -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* The same selector as one line, as kubectl and the API server read it; empty without one. */}}
{{- define "springtide.namespaceSelector" -}}
{{- $parts := list -}}
{{- with .Values.watchNamespaceSelector -}}
{{- range $key, $value := .matchLabels -}}
{{- $parts = append $parts (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- range .matchExpressions -}}
{{- if eq .operator "Exists" -}}{{- $parts = append $parts .key -}}
{{- else if eq .operator "DoesNotExist" -}}{{- $parts = append $parts (printf "!%s" .key) -}}
{{- else -}}{{- $parts = append $parts (printf "%s %s (%s)" .key (lower .operator) (join "," .values)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "," $parts -}}
{{- end -}}

{{- define "springtide.selector" -}}
app.kubernetes.io/name: springtide
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* Not the operator's: its Service, its budget and its policy must not find these pods. */}}
{{- define "springtide.prefetchSelector" -}}
app.kubernetes.io/name: springtide-prefetch
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "springtide.labels" -}}
{{ include "springtide.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "springtide.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "springtide.name" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image of {repository, tag, digest}: by digest where there is one. */}}
{{- define "springtide.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) -}}
{{- end -}}
{{- end -}}
