{{- define "mixer.selector" -}}
app.kubernetes.io/component: inference
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{- define "mixer.labels" -}}
{{ include "mixer.selector" . }}
app.kubernetes.io/part-of: mixer-serving
{{- end }}

{{- define "mixer.spread" -}}
maxSkew: 1
whenUnsatisfiable: ScheduleAnyway
matchLabelKeys: [pod-template-hash]
labelSelector:
  matchLabels:
    {{- include "mixer.selector" . | nindent 4 }}
{{- end }}
