{{/* Labels of everything, but for what must not change with a release. */}}
{{- define "breakglass.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/name: breakglass
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "breakglass.selector" -}}
app.kubernetes.io/name: breakglass
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "breakglass.auditSelector" -}}
app.kubernetes.io/name: breakglass
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: audit
{{- end }}

{{/* The pods of all fleets, as the controller labels them. */}}
{{- define "breakglass.fleetSelector" -}}
app.kubernetes.io/managed-by: breakglass-controller
{{- end }}

{{/* An image: dict of repository, tag and digest, and the default tag. */}}
{{- define "breakglass.image" -}}
{{- if .image.digest }}{{ printf "%s@%s" .image.repository .image.digest }}{{ else }}{{ printf "%s:%s" .image.repository (.image.tag | default .defaultTag) }}{{ end }}
{{- end }}

{{- define "breakglass.gatewayNamespaces" -}}
{{- .Values.gatewayNamespaces | default (list .Release.Namespace) | uniq | sortAlpha | toJson }}
{{- end }}

{{- define "breakglass.secretNamespaces" -}}
{{- append .Values.secretNamespaces .Release.Namespace | uniq | sortAlpha | toJson }}
{{- end }}

{{- define "breakglass.gatewayNamespace" -}}
{{- .Values.gateway.namespace | default .Release.Namespace }}
{{- end }}

{{/* "true" if the release makes a policy. */}}
{{- define "breakglass.makesPolicy" -}}
{{- if and .Values.policy.create .Values.policy.issuers }}true{{ end }}
{{- end }}

{{/* What values.schema.json cannot say. */}}
{{- define "breakglass.check" -}}
{{- with .Values.policy }}
{{- if and .create .issuers (not .roles) }}
{{- fail "policy.issuers is set and policy.roles is not: name at least one emergency role and who holds it (policy.roles[].grants)" }}
{{- end }}
{{- if and .create .roles (not .issuers) }}
{{- fail "policy.roles is set and policy.issuers is not: name at least one issuer of tokens, and where its public keys are (policy.issuers[].jwks)" }}
{{- end }}
{{- range $i, $issuer := .issuers }}
{{- if and (not $issuer.audiences) (not $.Values.cluster.name) }}
{{- fail (printf "policy.issuers[%d] (%s) has no audiences: set cluster.name, which makes them breakglass/<cluster.name>, or name them" $i $issuer.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.gateway }}
{{- if .create }}
{{- $namespaces := include "breakglass.gatewayNamespaces" $ | fromJsonArray }}
{{- if not (has (include "breakglass.gatewayNamespace" $) $namespaces) }}
{{- fail (printf "gateway.namespace %s is not one of gatewayNamespaces (%s): the Gateway would not be accepted; add it" (include "breakglass.gatewayNamespace" $) (join ", " $namespaces)) }}
{{- end }}
{{- if and (eq .protocol "HTTPS") (not (has (include "breakglass.gatewayNamespace" $) (include "breakglass.secretNamespaces" $ | fromJsonArray))) }}
{{- fail (printf "the certificate of the Gateway is in namespace %s, which is not one of secretNamespaces: add it" (include "breakglass.gatewayNamespace" $)) }}
{{- end }}
{{- if and (or .tls.certManager.clusterIssuer .tls.certManager.issuer) (or (not .hostname) (ne .protocol "HTTPS")) }}
{{- fail "gateway.tls.certManager needs gateway.hostname, for which it makes the certificate, and gateway.protocol HTTPS" }}
{{- end }}
{{- if and .tls.certManager.clusterIssuer .tls.certManager.issuer }}
{{- fail "set one of gateway.tls.certManager.clusterIssuer and gateway.tls.certManager.issuer" }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.service }}
{{- if and .loadBalancerClass (ne .type "LoadBalancer") }}
{{- fail "service.loadBalancerClass is for service.type LoadBalancer only: remove it" }}
{{- end }}
{{- if and .addressAnnotation (ne .type "LoadBalancer") }}
{{- fail "service.addressAnnotation is for service.type LoadBalancer only: remove it" }}
{{- end }}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") }}
{{- fail "service.externalTrafficPolicy is not for service.type ClusterIP: remove it" }}
{{- end }}
{{- end }}
{{- if ne (len .Values.audit.volume) 1 }}
{{- fail "audit.volume must have exactly one of emptyDir, ephemeral, hostPath and persistentVolumeClaim; set audit.volume.emptyDir to null to use another" }}
{{- end }}
{{- end }}
