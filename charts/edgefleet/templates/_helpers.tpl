{{/* Labels of every object of the chart. */}}
{{- define "edgefleet.labels" -}}
app.kubernetes.io/name: edgefleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: hub
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the operator's pods; never changed, a Deployment's selector is for life. */}}
{{- define "edgefleet.selector" -}}
app.kubernetes.io/name: edgefleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: hub
{{- end }}

{{- define "edgefleet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "edgefleet.trustConfigMap" -}}
{{- if .Values.trust.existingConfigMap -}}
{{ .Values.trust.existingConfigMap }}
{{- else -}}
{{- if not .Values.trust.publicKeys -}}
{{- fail "trust.publicKeys must hold at least one public key: `edgefleet keys create` makes a pair, then --set-file trust.publicKeys.release\\.pem=PUBLIC_KEY_FILE" -}}
{{- end -}}
edgefleet-trust
{{- end -}}
{{- end }}

{{/* What a pod of the operator may do: nothing but its work. */}}
{{- define "edgefleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "edgefleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
