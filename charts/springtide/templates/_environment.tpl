{{/* What the operator reads at its start; settings.py has the meaning and the bounds of each. */}}
{{- define "springtide.environment" -}}
- name: SPRINGTIDE_NAMESPACE
  value: {{ .Values.watchNamespace | quote }}
- name: SPRINGTIDE_NAMESPACE_SELECTOR
  value: {{ include "springtide.namespaceSelector" . | quote }}
- name: SPRINGTIDE_TRAINER_IMAGE
  value: {{ include "springtide.image" (list .Values.trainer .Chart.AppVersion) | quote }}
- name: SPRINGTIDE_PROGRESS_URL
  value: {{ printf "http://%s.%s.svc:8080" (include "springtide.name" .) .Release.Namespace }}
- name: SPRINGTIDE_LEASE_NAMESPACE
  value: {{ .Release.Namespace | quote }}
# One Lease for each release: two of one namespace would wait for each other.
- name: SPRINGTIDE_LEASE_NAME
  value: {{ include "springtide.name" . | quote }}
- name: SPRINGTIDE_WORKERS
  value: {{ .Values.operator.workers | int64 | quote }}
- name: SPRINGTIDE_MAX_PROBES
  value: {{ .Values.operator.maxProbes | int64 | quote }}
- name: SPRINGTIDE_MAX_PROBES_PER_NAMESPACE
  value: {{ .Values.operator.maxProbesPerNamespace | int64 | quote }}
- name: SPRINGTIDE_RESYNC_SECONDS
  value: {{ .Values.operator.resyncSeconds | int64 | quote }}
- name: SPRINGTIDE_CLIENT_QPS
  value: {{ .Values.operator.client.qps | int64 | quote }}
- name: SPRINGTIDE_CLIENT_BURST
  value: {{ .Values.operator.client.burst | int64 | quote }}
- name: SPRINGTIDE_PROMETHEUS_HOSTS
  value: {{ join "," .Values.operator.prometheusHosts | quote }}
- name: SPRINGTIDE_HUB_ENDPOINT
  value: {{ .Values.operator.hubEndpoint | quote }}
- name: SPRINGTIDE_LOG_LEVEL
  value: {{ .Values.operator.logLevel }}
- name: SPRINGTIDE_JOB_PODS
  value: {{ include "springtide.jobPods" . | quote }}
{{- with .Values.notifications }}
{{- with .url }}
- name: SPRINGTIDE_NOTIFICATIONS_URL
  value: {{ . | quote }}
{{- end }}
{{- if .secretName }}
- name: SPRINGTIDE_NOTIFICATIONS_DIRECTORY
  value: /etc/springtide/notifications
{{- end }}
- name: SPRINGTIDE_NOTIFICATIONS_TIMEOUT_SECONDS
  value: {{ .timeoutSeconds | int64 | quote }}
- name: SPRINGTIDE_NOTIFICATIONS_REPEAT_SECONDS
  value: {{ .repeatSeconds | int64 | quote }}
{{- end }}
# kopf names itself by this variable; the image's user has no name that it could use.
- name: POD_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end -}}

{{/* What `jobs` sets, as JSON; empty values are left out. */}}
{{- define "springtide.jobPods" -}}
{{- $set := dict -}}
{{- range $name, $value := .Values.jobs -}}
{{- if $value -}}{{- $_ := set $set $name $value -}}{{- end -}}
{{- end -}}
{{- $set | toJson -}}
{{- end -}}

{{/* The chart's variables and those of extraEnv; a name that stands twice would be ambiguous. */}}
{{- define "springtide.allEnvironment" -}}
{{- $own := include "springtide.environment" . | fromYamlArray -}}
{{- $seen := dict -}}
{{- range concat $own .Values.extraEnv -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "extraEnv: %s is set by the chart, or stands twice; use the chart's value for it, or remove one" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{ include "springtide.environment" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
