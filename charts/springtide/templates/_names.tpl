{{/* Names end up in a Service and in labels: no dots, and short enough for a suffix. */}}
{{- define "springtide.name" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}
{{- $name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
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

{{- define "springtide.selector" -}}
app.kubernetes.io/name: springtide
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Not the operator's: its Service, its budget and its policy must not find these pods. */}}
{{- define "springtide.prefetchSelector" -}}
app.kubernetes.io/name: springtide-prefetch
app.kubernetes.io/instance: {{ .Release.Name }}
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
