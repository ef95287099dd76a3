{{/* The file of `breakglass controller --config`; its fields are in controller/config. */}}
{{- define "breakglass.config" -}}
gatewayNamespaces: {{ include "breakglass.gatewayNamespaces" . }}
secretNamespaces: {{ include "breakglass.secretNamespaces" . }}
envoy:
  image: {{ include "breakglass.image" (dict "image" .Values.envoy.image "defaultTag" "") | quote }}
  pullPolicy: {{ .Values.envoy.image.pullPolicy }}
  {{- toYaml (pick .Values.envoy "replicas" "concurrency" "maxConnections" "resources") | nindent 2 }}
  {{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
  {{- with index $.Values.envoy $field }}
  {{ $field }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
agent:
  image: {{ include "breakglass.image" (dict "image" .Values.image "defaultTag" .Chart.AppVersion) | quote }}
  pullPolicy: {{ .Values.image.pullPolicy }}
  {{- toYaml .Values.agent | nindent 2 }}
service:
  type: {{ .Values.service.type }}
  {{- range $field := list "annotations" "loadBalancerClass" "addressAnnotation" "externalTrafficPolicy" }}
  {{- with index $.Values.service $field }}
  {{- toYaml (dict $field .) | nindent 2 }}
  {{- end }}
  {{- end }}
audit:
  {{- toYaml (pick .Values.audit "volume") | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
networkPolicy:
  {{- toYaml .Values.networkPolicy | nindent 2 }}
{{- end }}

{{/* The file of --sinks; its fields are in audit/sink. */}}
{{- define "breakglass.sinks" -}}
sinks:
  {{- toYaml .Values.audit.service.sinks | nindent 2 }}
{{- end }}

{{/* The names of the sinks by which somebody is told of alarms, as a JSON list. */}}
{{- define "breakglass.alarmSinks" -}}
{{- $names := list }}
{{- range .Values.audit.service.sinks }}
{{- if and (not .jsonLines) (or (not .kinds) (has "alarm" .kinds)) }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- $names | toJson }}
{{- end }}

{{/* Where whoever delivers to sinks finds that file, and the Secrets that it names files of. */}}
{{- define "breakglass.sinkMounts" -}}
{{- with .Values.audit.service }}
{{- if .sinks }}
- {name: sinks, mountPath: /etc/breakglass/sinks, readOnly: true}
{{- range .sinkSecrets }}
- {name: {{ printf "sink-%s" (sha256sum . | trunc 12) }}, mountPath: /etc/breakglass/secrets/{{ . }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "breakglass.sinkVolumes" -}}
{{- with .Values.audit.service }}
{{- if .sinks }}
- name: sinks
  downwardAPI:
    items:
    - {path: sinks.yaml, fieldRef: {fieldPath: "metadata.annotations['breakglass.dev/sinks']"}}
{{- range .sinkSecrets }}
- name: {{ printf "sink-%s" (sha256sum . | trunc 12) }}
  secret: {secretName: {{ . }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
