{{- define "mlp.selector" -}}
app.kubernetes.io/name: mlp
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mlp.labels" -}}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{ include "mlp.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Name, namespace, labels and annotations of an object; a list of the root and a name's ending. */}}
{{- define "mlp.metadata" -}}
{{- $root := index . 0 -}}
name: {{ $root.Release.Name }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "mlp.labels" $root | trim | nindent 2 }}
  app.kubernetes.io/component: server
{{- with $root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "mlp.server.selector" -}}
{{ include "mlp.selector" . }}
app.kubernetes.io/component: server
{{- end }}

{{/* The server's own settings; what is left out is what mlp takes. */}}
{{- define "mlp.server.port" -}}
{{ int (dig "serve" "port" 8080 .Values.server.spec) }}
{{- end }}
{{- define "mlp.server.drain" -}}
{{ int (dig "serve" "drain" 30 .Values.server.spec) }}
{{- end }}

{{/* What the server reads: the spec of the values, and what the chart decides. */}}
{{- define "mlp.server.spec" -}}
{{- $spec := deepCopy .Values.server.spec -}}
{{- $serve := set (default (dict) $spec.serve) "host" "0.0.0.0" -}}
{{- /* A folder of the pod is no place for predictions: without a place none are kept. */ -}}
{{- if not (hasKey $serve "log") }}{{ $_ := set $serve "log" nil }}{{ end -}}
{{- $_ := set $spec "serve" $serve -}}
{{- $_ := set $spec "cache" "/var/cache/mlp" -}}
{{- $_ := set $spec "journal" "/var/lib/mlp/journal" -}}
{{- $_ := set $spec "state" nil -}}
{{- toPrettyJson $spec -}}
{{- end }}

{{/* All that a pod follows from. */}}
{{- define "mlp.server.values" -}}
{{- $own := omit .Values.server "replicas" "autoscale" "service" "maxUnavailable" -}}
{{- list .Chart.Version $own (omit .Values "server" "global") | toJson -}}
{{- end }}

{{/* Where an autoscaler decides, what it has decided: without a number Kubernetes would take 1. */}}
{{- define "mlp.server.replicas" -}}
{{- if .Values.server.autoscale -}}
{{- $now := dig "spec" "replicas" 0 (lookup "apps/v1" "Deployment" .Release.Namespace .Release.Name) -}}
{{- min (max (int $now) (int .Values.server.autoscale.min)) (int .Values.server.autoscale.max) -}}
{{- else -}}
{{- int .Values.server.replicas -}}
{{- end -}}
{{- end }}
