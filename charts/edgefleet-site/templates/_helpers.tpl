{{/* Labels of every object of the chart. */}}
{{- define "edgefleet-site.labels" -}}
app.kubernetes.io/name: edgefleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that select the agent's pod; never changed, a Deployment's selector is for life. */}}
{{- define "edgefleet-site.selector" -}}
app.kubernetes.io/name: edgefleet
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "edgefleet-site.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "edgefleet-site.trustConfigMap" -}}
{{- if .Values.trust.existingConfigMap -}}
{{ .Values.trust.existingConfigMap }}
{{- else -}}
{{- if not .Values.trust.publicKeys -}}
{{- fail "trust.publicKeys must hold at least one public key: a site runs nothing that is not signed by a key it was given, --set-file trust.publicKeys.release\\.pem=PUBLIC_KEY_FILE" -}}
{{- end -}}
edgefleet-trust
{{- end -}}
{{- end }}

{{- define "edgefleet-site.joinSecret" -}}
{{ .Values.join.existingSecret | default "edgefleet-join" }}
{{- end }}

{{/* Values that contradict each other are refused before anything is installed. */}}
{{- define "edgefleet-site.check" -}}
{{- if and .Values.hub.server (not .Values.site.name) -}}
{{- fail "site.name must be set with hub.server: `edgefleet site token NAME -o values` prints both" -}}
{{- end -}}
{{- if and .Values.hub.server (not .Values.hub.caData) -}}
{{- fail "hub.caData must be set with hub.server: `edgefleet site token NAME -o values` prints both" -}}
{{- end -}}
{{- if and .Values.site.name (not .Values.hub.server) -}}
{{- fail "hub.server must be set with site.name: `edgefleet site token NAME -o values` prints both" -}}
{{- end -}}
{{- if and .Values.join.token .Values.join.existingSecret -}}
{{- fail "join.token and join.existingSecret must not both be set" -}}
{{- end -}}
{{- if and .Values.join.token (not .Values.hub.server) -}}
{{- fail "join.token has no effect without hub.server" -}}
{{- end -}}
{{- if and .Values.hub.caData (not .Values.hub.server) -}}
{{- fail "hub.caData has no effect without hub.server" -}}
{{- end -}}
{{- if or (hasPrefix "kube-" .Values.models.namespace) (eq .Values.models.namespace .Release.Namespace) -}}
{{- fail "models.namespace must be a namespace of its own: neither kube-* nor the release's" -}}
{{- end -}}
{{- end }}

{{/* What a pod of the agent may do: nothing but its work. */}}
{{- define "edgefleet-site.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
