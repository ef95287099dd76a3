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
  {{- toYaml .Values.audit | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
networkPolicy:
  {{- toYaml .Values.networkPolicy | nindent 2 }}
{{- end }}
